"""Reports the events and the end of `propsync run` on every channel, whatever ended the run."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from ..errors import EtlError, JobError
from ..process import handling_signals
from ..run_events import Ended, Event, Listener, Started, Summary, Warned, call_all, compose, ended, not_begun
from ..text import visible
from .console import Invocation, as_error, show_json, show_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..listeners.display import TerminalListener
    from ..listeners.notifier import Notifier, Target, When

_T = TypeVar("_T", Event, Summary)

_STREAM: Final = "a stream can't be resumed: send the whole of it again, with --restart"


def terminal_bar() -> TerminalListener | None:
    """A progress bar, if stderr is a terminal that can draw one."""
    if sys.stderr.isatty():
        from ..listeners.display import TerminalListener, has_cursor

        if has_cursor(sys.stderr):
            return TerminalListener(sys.stderr)
    return None


@dataclass(frozen=True, slots=True)
class Channels:
    """Where a run is reported, besides by its exit code."""

    as_json: bool = False
    report: Path | None = None
    metrics_file: Path | None = None
    log_format: str | None = None
    rejects: Path | None = None
    notify: Target | None = None
    notify_when: When | None = None
    mask: bool = False

    @classmethod
    def take(cls, flags: dict[str, Any]) -> Self:
        """Take the fields out of the flags of the command."""
        return cls(**{part.name: flags.pop(part.name) for part in fields(cls)})


class RunReporter(AbstractContextManager["RunReporter"]):
    """A listener that reports the end when the block is left, and turns errors into `exit_code`.

    The end is reported with its reason on every channel, also if the run could not begin. Set `state_dir` and
    `repeatable` as soon as they are known; a dry run sets `exit_code` itself.
    """

    def __init__(self, invocation: Invocation, channels: Channels, job_file: Path | None) -> None:
        self._invocation = invocation
        self._channels = channels
        self._files: list[Listener] = []
        self._lines: list[Listener] = []
        self._notifier: Notifier | None = None
        self._remote: list[Listener] = []  # over the network
        self._listener: Listener = lambda _: None
        self._summary: Summary | None = None
        self._began = False
        self.exit_code = 0
        self.state_dir: Path | None = None
        self.repeatable = True
        invocation.as_json_lines = channels.log_format == "json"
        invocation.job = visible(job_file.stem if job_file else "") or "propsync"

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None and self._summary is None:
            return False  # a dry run, which has shown all there is
        # The files first, and no signal comes between: they must not show a run that still goes on.
        with handling_signals(lambda *_: None):
            known = None if error is None else as_error(error)
            if isinstance(known, JobError) and known.job:
                self._invocation.job = known.job
            summary = self._redacted(ended(self._summary or not_begun(self._invocation.job), known))
            self.exit_code = summary.exit_code
            failures = call_all(self._files, Ended(summary))
        with suppress(KeyboardInterrupt):  # a signal stops the wait for others
            failures += call_all(self._remote, Ended(summary))
        with suppress(KeyboardInterrupt):  # a second signal stops the messages, too
            self._end_lines(summary, error, [failure for _, failure in failures])
        return True

    def open(self, channels: Channels | None = None, *, dry_run: bool = False) -> None:
        """Open the channels, or other `channels`; a dry run leaves the metrics as they are.

        Raises UsageError or StateError if a file can't be written.
        """
        from ..listeners.metrics import MetricsListener, configured_telemetry  # each has its own library

        channels = self._channels = channels or self._channels
        as_json = self._invocation.as_json_lines = channels.log_format == "json"
        failures: list[EtlError] = []

        def open_file(path: Path | None, writer: Callable[[Path], Listener]) -> None:
            try:
                self._files += [writer(path)] if path is not None else []
            except EtlError as error:
                failures.append(error)

        open_file(None if dry_run else channels.metrics_file, MetricsListener)
        if channels.report is not None:
            from ..listeners.report import ReportListener
            from ..listeners.run_record import past_records

            past = lambda: past_records(self.state_dir) if self.state_dir else ()  # noqa: E731
            page = partial(ReportListener, command=self._next_command, past=past, mask=channels.mask)
            open_file(channels.report, page)
        if channels.rejects is not None and not dry_run:
            from ..listeners.reject_list import RejectList

            where = lambda: self.state_dir and self.state_dir / "checkpoint.sqlite"  # noqa: E731
            open_file(channels.rejects, partial(RejectList, checkpoint=where))
        if not dry_run:
            # A bar on a terminal or log lines elsewhere, never both.
            if channels.log_format is None and (bar := terminal_bar()):
                self._lines.append(bar)
            else:
                from ..listeners.display import LogListener

                self._lines.append(LogListener(sys.stderr, as_json=as_json, job=self._invocation.job))
            if channels.notify is not None:
                from ..listeners.notifier import Notifier

                self._notifier = Notifier(channels.notify, channels.notify_when)
                self._remote.append(self._notifier)
            if telemetry := configured_telemetry(os.environ):
                self._remote.append(telemetry)
        self._listener = compose(*self._files, *self._remote, *self._lines)
        if failures:
            raise failures[0]

    def keep_history(self, state_dir: Path) -> None:
        """Also keep a record and the progress of the run in its state folder, from now on."""
        from ..checkpoint import StateDir
        from ..listeners.progress import RunStateWriter
        from ..listeners.run_record import HistoryListener

        self.state_dir = state_dir
        if self._notifier is not None:
            self._notifier.compare_with(state_dir)
        history = HistoryListener(state_dir, mask=self._channels.mask)
        self._files += (RunStateWriter(StateDir(state_dir).progress), history)
        self._listener = compose(*self._files, *self._remote, *self._lines)

    def __call__(self, event: Event) -> None:
        """Pass an event on; the end is kept until the command is over."""
        if isinstance(event, Ended):
            self._summary = event.summary
            return
        self._began = self._began or isinstance(event, Started)
        self._listener(self._redacted(event))

    def _end_lines(self, summary: Summary, error: BaseException | None, failures: list[Exception]) -> None:
        from ..listeners.summary import summary_dict, summary_text

        listener, message = compose(*self._lines), self._invocation.message
        for failure in failures:
            listener(Warned("listener_failed", self._invocation.redacted(str(failure))))
        if self._began:
            listener(Ended(summary))
        if self._channels.as_json:
            show_json(summary_dict(summary))
        elif self._began:
            width = min(shutil.get_terminal_size().columns, 100)
            show_lines(summary_text(summary, width=width).split("\n"))
        if summary.tally.rejected and self.state_dir is not None:
            path = str(self._channels.rejects or self.state_dir / "rejects.ndjson")
            message("rejects", f"rejects: {path}", path=path)
        if summary.status != "finished":
            command, limited = self._next_command(), summary.status == "limited"
            what = "to send the rest" if limited else "to resume it"
            if self._began and command is not None:
                message("unfinished", f"{what}: {command}", command=command)
            elif self._began:
                message("unfinished", _STREAM, message=_STREAM)
            if not limited:
                self._invocation.failure(error or KeyboardInterrupt(), summary)
        elif isinstance(error, Exception):
            text = f"the run has finished; afterwards something went wrong: {as_error(error)}"
            message("warned", f"propsync: {text}", message=text)

    def _next_command(self) -> str | None:
        limited = self._summary is not None and self._summary.status == "limited"
        return self._invocation.resume_command(limited=limited) if self.repeatable else None

    def _redacted(self, event: _T) -> _T:
        """The event without the API key in any of its texts."""
        texts: dict[str, Any] = {
            part.name: self._invocation.redacted(text)
            for part in fields(event)
            if isinstance(text := getattr(event, part.name), str)
        }
        return replace(event, **texts)
