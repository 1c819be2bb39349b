"""One call of the command: its words, the form its messages take, and the secrets they never show."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

import click

from etl.errors import EtlError, ExitCode

_SHORTEST_SECRET = 8  # blotting out anything shorter would make holes in ordinary words


@dataclass(slots=True)
class Invocation:
    """What the outermost layer must know of a command while it runs; commands fill it in.

    `as_json_lines` says that each line on stderr has to be a JSON object, `job` is the name in them.
    """

    arguments: tuple[str, ...] = ()
    as_json_lines: bool = False
    job: str = ""
    secrets: list[str] = field(default_factory=list)

    def again(self) -> str:
        """The command that takes up what this one began, as one would type it."""
        return shlex.join(["propsync", *(word for word in self.arguments if word != "--restart")])

    def tell(self, event: str, text: str, **fields: object) -> None:
        """Write a message to stderr, as text or as a log line with these fields."""
        self._write("info", event, text, fields)

    def tell_error(self, error: EtlError) -> None:
        """Write what went wrong and what to do about it."""
        fields = {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
        self._write("error", "failed", f"propsync: {error}", fields)

    def tell_fault(self, trace: str) -> None:
        """Write the trace of a fault of ours, which may hold anything that was in memory."""
        message = "this is a fault of propsync, please report it"
        fields = {"message": message, "trace": self._blotted(trace), "exit_code": int(ExitCode.FAULT)}
        self._write("error", "failed", f"propsync: {message}\n{fields['trace']}", fields)

    def _write(self, level: str, event: str, text: str, fields: Mapping[str, object]) -> None:
        if self.as_json_lines:
            moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            text = json.dumps({"time": moment, "level": level, "event": event, "job": self.job, **fields})
        print(text, file=sys.stderr)  # noqa: T201 - what is for the user and is no result

    def _blotted(self, text: str) -> str:
        from etl.sender.proxy import proxy_secrets

        found = [value for name, value in os.environ.items() if name.upper().endswith(("_KEY", "_SECRET"))]
        found += proxy_secrets(os.environ)
        secrets = {*self.secrets, *(value for value in found if len(value) >= _SHORTEST_SECRET)} - {""}
        for secret in sorted({*secrets, *map(quote, secrets)}, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def show(result: str | bytes) -> None:
    """Write a result to stdout; whether anybody still reads it is no business of the run."""
    try:
        click.echo(result)
    except BrokenPipeError:
        # Python would try to flush once more at its end; from now on it all goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
