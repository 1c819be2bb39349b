"""A page about the run, written whole when it ends: to be kept, mailed and read by people."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from etl.listeners.page import Account, page
from etl.listeners.whole_file import check_writable, write_whole
from etl.model import Ended, Event, Recovered, Started, Summary, Warned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_WARNINGS: Final = 200


class ReportListener:
    """Writes `path` at the end.

    `command` gives, at the end, what to run next if the run is unfinished; `now` is the time of day.
    Raises UsageError or StateError at once if the file can't be written, and StateError if it can't be at the
    end.
    """

    def __init__(
        self,
        path: Path,
        *,
        command: Callable[[], str | None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        check_writable(path)
        self._path, self._command, self._now = path, command, now
        self._began = now()
        self._started: Started | None = None
        self._warnings: Counter[Warned] = Counter()
        self._pauses: list[float] = []

    def __call__(self, event: Event) -> None:
        """Take in what happened; at the end, write the page."""
        match event:
            case Started():
                self._started, self._began = event, self._now()
            case Recovered(seconds):
                self._pauses.append(seconds)
            case Warned() if event in self._warnings or len(self._warnings) < MOST_WARNINGS:
                self._warnings[event] += 1
            case Ended(summary):
                write_whole(self._path, page(self._account(summary)))

    def _account(self, summary: Summary) -> Account:
        return Account(
            summary=summary,
            started=self._started,
            began=self._began.astimezone(UTC),
            ended=self._now().astimezone(UTC),
            warnings=self._warnings,
            pauses=tuple(self._pauses),
            command=self._command(),
        )
