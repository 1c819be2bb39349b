"""Standard streams of the command: results on stdout, messages on stderr, and a secret in neither."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import EtlError, StateError, UsageError
from ..text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ..job.known_job import KnownJob
    from ..job.spec import Job
    from ..listeners.display import Level
    from ..run_events import Summary

# What the reader refuses in the address of a store: `KEY:SECRET@`, and settings that are secrets.
_STORE: Final = r"(?i)(s3|gcs|gs|abfss?)://"
_STORE_SECRET: Final = r"(?i)(?<=://)[^?]*(?::|%3a)[^?]*(?=@)|(?<=[?&])[\w-]*(?:key|secret|token|sig)=[^&]*"  # noqa: S105
_STYLES: Final[Mapping[str, dict[str, Any]]] = {
    "head": {"bold": True},
    "bad": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow"},
    "soft": {"dim": True},
}
_SHORTEST_SECRET: Final = 8  # redacting anything shorter would make holes in ordinary words


# --- results ---------------------------------------------------------------------------------------------


def show(text: str) -> None:
    """Write a result to stdout, as it is. A failure to write it never decides how a command ends."""
    failure = _write(text)
    if failure is not None:
        message = f"the standard output can't be written: {failure}"
        current().message("warned", f"propsync: {message}", code="output", message=message)


def show_lines(lines: Iterable[str]) -> None:
    """Write a result for people; characters that can't be printed are escaped."""
    show("\n".join(map(visible, lines)))


def show_styled(lines: Iterable[tuple[str, str]]) -> None:
    """Write lines with the names of their styles: in colour on a terminal, unless NO_COLOR is set."""
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    styles = {} if plain else _STYLES
    shown = ((visible(text), styles.get(style)) for text, style in lines)
    show("\n".join(click.style(text, **style) if style else text for text, style in shown))


def show_json(data: object) -> None:
    """Write a result for programs, on one line."""
    import json  # here and below: `--help` does without

    import orjson

    try:
        text = orjson.dumps(data).decode()
    except TypeError:  # half a character, as in the name of a file that isn't UTF-8
        text = json.dumps(data)
    show(printable_json(text))


def show_result(data: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Write a result for programs, or else its lines for people."""
    if as_json:
        show_json(data)
    else:
        show_lines(lines)


def table_text(header: Iterable[str], rows: Iterable[Iterable[str]], width: int, **first: Any) -> str:
    """Set foreign texts in a table of at most `width` columns; `first` is how its first column looks."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, title in enumerate(header):
        table.add_column(Text(title), overflow="fold", **({} if place else first))
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def open_browser(url: str) -> None:
    """Open a page in the user's browser, if there is one, without waiting for it."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def is_stdout(path: object) -> bool:
    """Whether a path stands for the standard output."""
    return str(path) == "-"


def write_output(path: Path | None, text: str, *, private: bool = False) -> None:
    """Write a result that is to be kept to a file, or else to stdout. Raises StateError if that fails."""
    if path is not None and not is_stdout(path):
        from ..state_files import write_whole

        write_whole(path, text, private=private)
    elif (failure := _write(text.removesuffix("\n"))) is not None:
        raise StateError(f"the standard output can't be written: {failure}", hint="make room for it")


def _write(text: str) -> str | None:
    """Write to stdout; return why that failed, only once, and not if the reader of a pipe has left."""
    with suppress(BrokenPipeError):  # only where `make_sturdy` wasn't called
        print(current().redacted(text), flush=True)  # noqa: T201 - a result
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = raw.new_failure() if isinstance(raw, _SturdyFile) else None
    return failure.strerror if failure is not None and failure.errno != errno.EPIPE else None


def printable_json(text: str) -> str:
    """Return the same JSON, with an escape for every character that a terminal or an editor doesn't show."""

    def escaped(match: re.Match[str]) -> str:
        if match[0].isprintable():
            return match[0]
        # A pair of escapes beyond the first 65,536 characters.
        return re.sub("(.{4})", r"\\u\1", match[0].encode("utf-16-be", "surrogatepass").hex())

    return re.sub(r"[^\n\x20-\x7e]", escaped, text)


# --- messages --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Invocation:
    """One call of the command; commands fill in what its messages need.

    With `as_json_lines` each line on stderr is a JSON object with the name `job`.
    """

    arguments: tuple[str, ...] = ()
    as_json_lines: bool = False
    job: str = ""
    secrets: list[str] = field(default_factory=list)

    def resume_command(self, *, limited: bool = False) -> str:
        """Return the command that resumes this one, as one would type it; `limited`: without its limit."""
        import shlex

        words = [word for word in self.arguments if word != "--restart"]
        places = [place for place, word in enumerate(words) if limited and word.startswith("--limit")]
        for place in reversed(places):
            del words[place : place + (1 if "=" in words[place] else 2)]
        shown = [re.sub(_STORE_SECRET, "...", word) if re.match(_STORE, word) else word for word in words]
        return self.redacted(visible(shlex.join(["propsync", *shown])))

    def set_job(self, job: Job | KnownJob) -> None:
        """Note a job's name and its key, so that no message shows the key, wherever it may come from."""
        from ..job.known_job import read_api_key

        self.job = job.name
        with suppress(EtlError):
            self.secrets.append(read_api_key(job, os.environ))

    def message(self, event: str, text: str, /, **fields: object) -> None:
        """Write a message to stderr, as a line of text or as a log line with these fields."""
        self._write("info", event, visible(text), fields)

    def failure(self, error: BaseException, summary: Summary | None = None) -> int:
        """Write why the command failed and what to do about it, and return the exit code.

        `summary` is that of the run, where the command is one.
        """
        from ..run_events import FAULT, ended, not_begun

        summary = summary or ended(not_begun(self.job), as_error(error))
        names = ("hint", "exit_code", "status", "reason")
        fields = {"message": summary.reason, **{name: getattr(summary, name) for name in names}}
        if isinstance(error, EtlError):
            text = f"propsync: {summary.reason}" + (f"\n  {summary.hint}" if summary.hint else "")
        elif isinstance(error, click.ClickException):
            buffer, message = io.StringIO(), error.format_message()
            error.show(buffer)
            lines = buffer.getvalue().removesuffix(f"Error: {message}\n").splitlines()
            if isinstance(error, click.MissingParameter):  # which lists the choices a line each
                message = " ".join(message.split())
            if not isinstance(error, click.exceptions.NoArgsIsHelpError):  # which is shown as the help
                lines.append(f"Error: {message}")
            text = "\n".join(map(visible, lines))
        elif isinstance(error, KeyboardInterrupt | click.Abort):
            text = "propsync: interrupted"
        else:
            fields["trace"] = self._trace(error)
            text = f"propsync: {FAULT}\n{fields['trace']}"
        self._write("error", "failed", text, fields)
        return summary.exit_code

    def redacted(self, text: str) -> str:
        """Return the text without the API key, if that is known."""
        return _without({secret for secret in self.secrets if len(secret) >= _SHORTEST_SECRET}, text)

    def _trace(self, error: BaseException) -> str:
        """The trace of a bug, redacted, as it may hold anything that was in memory."""
        import traceback

        from ..job.words import names_secret
        from ..sender.proxy import proxy_secrets

        found = [value for name, value in os.environ.items() if names_secret(name)]
        found = [value for value in (*found, *proxy_secrets(os.environ)) if len(value) >= _SHORTEST_SECRET]
        text = _without({*self.secrets, *found} - {""}, "".join(traceback.format_exception(error)))
        return "\n".join(map(visible, text.split("\n")))

    def _write(self, level: Level, event: str, text: str, fields: Mapping[str, object]) -> None:
        if self.as_json_lines:
            from datetime import UTC, datetime

            from ..listeners.display import json_line

            text = json_line(level, event, self.job, fields, datetime.now(UTC))
        with suppress(OSError):  # only where the streams of the process aren't ours
            print(self.redacted(text), file=sys.stderr)  # noqa: T201 - for the user, and not a result


def current() -> Invocation:
    """Return the invocation of the command that runs now, or a new one where none does."""
    context = click.get_current_context(silent=True)
    return (context.find_object(Invocation) if context else None) or Invocation()


def as_error(error: BaseException) -> BaseException:
    """Return an error of click as one of ours, any other as it is."""
    if isinstance(error, click.ClickException):
        return UsageError(error.format_message())
    return KeyboardInterrupt() if isinstance(error, click.Abort) else error


def _without(secrets: set[str], text: str) -> str:
    """Redact secrets, also as they are written in a URL, in JSON or as a Python string."""
    if not secrets:
        return text
    import json
    from urllib.parse import quote

    forms = {f for s in secrets for f in (s, quote(s), json.dumps(s)[1:-1], repr(s)[1:-1])}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


# --- sturdy streams --------------------------------------------------------------------------------------


def make_sturdy() -> None:
    """Make stdout and stderr streams that never fail: not on a full disk, nor when nobody reads them.

    A closed stream is replaced by the null device; otherwise the next file that is opened, such as the
    checkpoint, would get its number, and messages. Standard input then can't be read.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # takes the lowest number that is free, which is this one
        if name != "stdin":
            # In the stream's own encoding, with escapes for other characters.
            stream = io.TextIOWrapper(
                io.BufferedWriter(_SturdyFile(number, f"<{name}>")),
                encoding=getattr(getattr(sys, name), "encoding", None) or "utf-8",
                errors="backslashreplace",
                line_buffering=True,
                write_through=bool(getattr(getattr(sys, name), "write_through", False)),
            )
            setattr(sys, name, stream)


class _SturdyFile(io.FileIO):
    """A descriptor that takes all that is written; after its first failure it drops everything."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name = name
        self._failure: OSError | None = None
        self._reported = False

    def new_failure(self) -> OSError | None:
        """Return why nothing is written any more; only once."""
        reported, self._reported = self._reported, self._failure is not None
        return None if reported else self._failure

    def write(self, data: Any) -> int:
        while self._failure is None:
            try:
                if (written := super().write(data)) is not None:
                    return written
                select.select([], [self], [])  # until a pipe that doesn't block has room again
            except OSError as error:
                self._failure = error
        return len(data)
