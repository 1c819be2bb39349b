"""The end of `propsync run`, told on every channel that was asked for, whatever ended it."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import click

from etl.cli.console import show_json, show_lines
from etl.cli.invocation import Invocation, as_error
from etl.ending import ended, not_begun
from etl.errors import EtlError, JobError
from etl.interrupts import heard_by
from etl.model import Ended, Event, Listener, Started, Summary, Warned
from etl.wording import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T", Event, Summary)

_NAMELESS: Final = "propsync"
_STREAM: Final = "a stream can't be taken up: begin again with the whole of it, and --restart"


@dataclass(frozen=True, slots=True)
class Channels:
    """Where a run is to be told of, besides by its exit code."""

    as_json: bool = False
    report: Path | None = None
    metrics_file: Path | None = None
    log_format: str | None = None


class RunEnd:
    """Hears a run, and tells its end when the block is left; no error leaves the block, but an exit code.

    The end is told with its reason to everyone, also where the run could not begin. `state_dir` and
    `repeatable` are to be filled in as soon as they are known; a dry run sets `exit_code` itself.
    """

    def __init__(self, invocation: Invocation, channels: Channels, job_file: Path | None) -> None:
        self._invocation = invocation
        self._channels = channels
        self._files: list[Listener] = []
        self._lines: list[Listener] = []
        self._stack = ExitStack()
        self._tell: Listener = lambda _: None
        self._summary: Summary | None = None
        self._began = False
        self.exit_code = 0
        self.state_dir: Path | None = None
        self.repeatable = True
        invocation.as_json_lines = channels.log_format == "json"
        invocation.job = visible(job_file.stem if job_file else "") or _NAMELESS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None and self._summary is None:
            return False  # a dry run, which has told all there is
        # The files first, and no signal comes between: they must not tell of a run that still goes on.
        with heard_by(lambda *_: None):
            summary = self._summary_of(error)
            self.exit_code = summary.exit_code
            failed = self._tell_files(summary)
        with suppress(KeyboardInterrupt):  # whoever asks twice does not want to read it
            self._tell_people(summary, error, failed)
        return True

    def open(self, *, dry_run: bool = False) -> None:
        """Begin to tell, in files and to people; a dry run leaves the metrics alone.

        Raises UsageError or StateError where a file can't be written.
        """
        from etl.listeners import compose

        failures: list[EtlError] = []
        for path, listener in self._writers(dry_run=dry_run):
            try:
                self._files.append(listener(path))
            except EtlError as error:
                failures.append(error)
        if not dry_run:
            self._lines.append(self._for_people())
        self._tell = compose(*self._files, *self._lines)
        if failures:
            raise failures[0]

    def __call__(self, event: Event) -> None:
        """Pass an event on; the end is kept until the command is over."""
        if isinstance(event, Ended):
            self._summary = event.summary
            return
        self._began = self._began or isinstance(event, Started)
        self._tell(self._blotted(event))

    def _writers(self, *, dry_run: bool) -> list[tuple[Path, Callable[[Path], Listener]]]:
        found: list[tuple[Path, Callable[[Path], Listener]]] = []
        if self._channels.metrics_file is not None and not dry_run:
            from etl.listeners.metrics import MetricsListener

            found.append((self._channels.metrics_file, MetricsListener))
        if self._channels.report is not None:
            from etl.listeners.report import ReportListener

            found.append((self._channels.report, partial(ReportListener, command=self._next_command)))
        return found

    def _for_people(self) -> Listener:
        """A bar on a terminal or log lines elsewhere, never both."""
        from etl.listeners import draws

        if self._channels.log_format is None and draws(sys.stderr):
            from etl.listeners.terminal import TerminalListener

            return self._stack.enter_context(TerminalListener(sys.stderr))
        from etl.listeners.log import LogListener

        as_json = self._channels.log_format == "json"
        return LogListener(sys.stderr, "json" if as_json else "text", job=self._invocation.job)

    def _summary_of(self, error: BaseException | None) -> Summary:
        known = None if error is None else as_error(error)
        if isinstance(known, JobError) and known.job:
            self._invocation.job = known.job
        return self._blotted(ended(self._summary or not_begun(self._invocation.job), known))

    def _tell_files(self, summary: Summary) -> list[Exception]:
        failed = []
        for listener in self._files:
            try:
                listener(Ended(summary))
            except Exception as error:  # noqa: BLE001 - the run is over, whatever goes wrong in telling
                failed.append(error)
        return failed

    def _tell_people(self, summary: Summary, error: BaseException | None, failed: list[Exception]) -> None:
        from etl.listeners import compose

        tell = compose(*self._lines)
        for failure in failed:
            tell(Warned("listener_failed", self._invocation.blotted(str(failure))))
        if self._began:
            tell(Ended(summary))
        self._stack.close()
        self._show(summary)
        if summary.tally.rejected and self.state_dir is not None:
            path = str(self.state_dir / "rejects.ndjson")
            self._invocation.tell("rejects", f"rejects: {path}", path=path)
        if summary.status != "finished":
            self._tell_how_to_go_on()
            self._invocation.tell_failure(error or KeyboardInterrupt(), summary)
        elif isinstance(error, Exception):
            message = f"the run has finished; afterwards something went wrong: {as_error(error)}"
            self._invocation.tell("warned", f"propsync: {message}", message=message)

    def _show(self, summary: Summary) -> None:
        from etl.listeners.summary import summary_dict, summary_text

        if self._channels.as_json:
            show_json(summary_dict(summary))
        elif self._began:
            width = min(shutil.get_terminal_size().columns, 100)
            show_lines(summary_text(summary, width=width).split("\n"))

    def _tell_how_to_go_on(self) -> None:
        command = self._next_command()
        if not self._began:
            return
        if command is not None:
            self._invocation.tell("unfinished", f"to take it up again: {command}", command=command)
        else:
            self._invocation.tell("unfinished", _STREAM, message=_STREAM)

    def _next_command(self) -> str | None:
        return self._invocation.again() if self.repeatable else None

    def _blotted(self, told: T) -> T:
        """What is told, without the API key in any of its words."""
        texts: dict[str, Any] = {
            part.name: self._invocation.blotted(text)
            for part in fields(told)
            if isinstance(text := getattr(told, part.name), str)
        }
        return replace(told, **texts)


class RunCommand(click.Command):
    """`run`, which also tells of a command line that can't be read, wherever the run was to be told of."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the command line. Raises click.UsageError, or click.exceptions.Exit once that is told."""
        words = list(args)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            invocation = parent.find_object(Invocation) if parent else None
            if invocation is None:
                raise
            given = super().make_context(
                info_name,
                words,
                parent,
                resilient_parsing=True,
                ignore_unknown_options=True,
                allow_extra_args=True,
            )
            raise click.exceptions.Exit(_tell_unreadable(invocation, given.params, error)) from error


def channels_of(given: dict[str, Any]) -> Channels:
    """The channels that were asked for, out of the options of `run`."""
    return Channels(**{part.name: given[part.name] for part in fields(Channels) if given.get(part.name)})


def _tell_unreadable(invocation: Invocation, given: dict[str, Any], error: click.UsageError) -> int:
    with RunEnd(invocation, channels_of(given), given.get("job")) as end:
        with suppress(EtlError):  # one thing after the other
            end.open(dry_run=bool(given.get("dry_run")))
        raise error
    return end.exit_code
