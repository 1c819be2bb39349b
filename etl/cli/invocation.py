"""One call of the command: its words, the form its messages take, and the secrets they never show."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from etl.ending import FAULT, ended, not_begun
from etl.errors import EtlError, UsageError
from etl.wording import visible

if TYPE_CHECKING:
    from etl.job import Job
    from etl.model import Summary

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
        words = [word for word in self.arguments if word != "--restart"]
        return self.blotted(visible(shlex.join(["propsync", *words])))

    def know(self, job: Job) -> None:
        """Learn a job's name and its key, so that no message shows that, wherever it may come from."""
        from etl.job import read_api_key

        self.job = job.name
        with suppress(EtlError):
            self.secrets.append(read_api_key(job, os.environ))

    def tell(self, event: str, text: str, **fields: object) -> None:
        """Write a message to stderr, as a line of text or as a log line with these fields."""
        self._write("info", event, visible(text), fields)

    def tell_failure(self, error: BaseException, summary: Summary | None = None) -> int:
        """Write why the command failed, and what to do about it; the exit code.

        `summary` is that of the run, where the command is one.
        """
        summary = summary or ended(not_begun(self.job), as_error(error))
        fields = {
            "message": summary.reason,
            "hint": summary.hint,
            "exit_code": summary.exit_code,
            "status": summary.status,
            "reason": summary.reason,
        }
        if isinstance(error, EtlError):
            hint = f"\n  {summary.hint}" if summary.hint else ""
            self._write("error", "failed", f"propsync: {summary.reason}{hint}", fields)
        elif isinstance(error, click.ClickException):
            self._write("error", "failed", _usage(error), fields)
        elif isinstance(error, KeyboardInterrupt | click.Abort):
            self._write("error", "failed", "propsync: interrupted", fields)
        else:
            trace = self._traced(error)
            self._write("error", "failed", f"propsync: {FAULT}\n{trace}", {**fields, "trace": trace})
        return summary.exit_code

    def blotted(self, text: str) -> str:
        """The text without the API key, where that is known."""
        return _without({secret for secret in self.secrets if len(secret) >= _SHORTEST_SECRET}, text)

    def _traced(self, error: BaseException) -> str:
        """The trace of a fault of ours, which may hold anything that was in memory."""
        from etl.job.notation import names_secret
        from etl.sender.proxy import proxy_secrets

        found = {value for name, value in os.environ.items() if names_secret(name)}
        found.update(proxy_secrets(os.environ))
        secrets = {*self.secrets, *(value for value in found if len(value) >= _SHORTEST_SECRET)}
        text = _without(secrets - {""}, "".join(traceback.format_exception(error)))
        return "\n".join(map(visible, text.split("\n")))

    def _write(self, level: str, event: str, text: str, fields: Mapping[str, object]) -> None:
        if self.as_json_lines:
            moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            text = json.dumps({"time": moment, "level": level, "event": event, "job": self.job, **fields})
        with suppress(OSError):  # only where the streams of the process aren't ours
            print(self.blotted(text), file=sys.stderr)  # noqa: T201 - what is for the user and is no result


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def current() -> Invocation:
    """That of the command that runs now; a new one where none does."""
    context = click.get_current_context(silent=True)
    return (context.find_object(Invocation) if context else None) or Invocation()


def as_error(error: BaseException) -> BaseException:
    """What click says, as an error of ours."""
    if isinstance(error, click.ClickException):
        return UsageError(error.format_message())
    return KeyboardInterrupt() if isinstance(error, click.Abort) else error


def _without(secrets: set[str], text: str) -> str:
    """Blot secrets out, also where they stand in a URL, in JSON or in quotes of Python."""
    for secret in sorted({form for one in secrets for form in _forms(one)}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _forms(secret: str) -> tuple[str, ...]:
    return (secret, quote(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1])


def _usage(error: click.ClickException) -> str:
    """What click says of a command line that is wrong."""
    buffer, message = io.StringIO(), error.format_message()
    error.show(buffer)
    before = buffer.getvalue().removesuffix(f"Error: {message}\n")
    return "\n".join([*map(visible, before.splitlines()), f"Error: {visible(message)}"])
