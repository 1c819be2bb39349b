"""How a run ended: its status, exit code, reason and hint are decided here; and who passes its events on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from .errors import EtlError, ExitCode
from .model import Tally
from .run_events import Ended, Event, Listener, Status, Summary, Warned
from .text import counted, one_line, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

FAULT: Final = "this is a bug in propsync; please report it"
GO_ON: Final = "run the same command again"
_REJECTS: Final = "see the rejects for the reasons; once fixed, that file is a source"


def not_begun(job: str) -> Summary:
    """The summary of a run that could not begin."""
    return Summary(job, Tally(), 0.0, 0, "stopped")


def ended(summary: Summary, error: BaseException | None = None) -> Summary:
    """The summary with its status, exit code, reason and hint; `error` is what ended the run, if anything.

    A run that has finished stays finished, whatever went wrong after that.
    """
    if summary.status in {"finished", "limited"}:
        rejected = summary.tally.rejected
        if not rejected or summary.accepts_rejects:
            return replace(summary, exit_code=int(ExitCode.DONE), reason=None, hint=None)
        reason = f"{counted(rejected, 'row')} {'was' if rejected == 1 else 'were'} rejected"
        return replace(summary, exit_code=int(ExitCode.REJECTS), reason=reason, hint=_REJECTS)
    code, reason, hint = _why(error)
    status: Status = "interrupted" if code == ExitCode.INTERRUPTED else "stopped"
    return replace(summary, status=status, exit_code=int(code), reason=reason, hint=hint)


def _why(error: BaseException | None) -> tuple[ExitCode, str, str | None]:
    if isinstance(error, EtlError):
        hint = None if error.hint is None else visible(error.hint)
        return error.exit_code, "\n".join(map(visible, error.lines)), hint
    from asyncio import CancelledError  # here, since `--help` must start fast

    if isinstance(error, KeyboardInterrupt | CancelledError):
        return ExitCode.INTERRUPTED, "interrupted", GO_ON
    # Without its message, which may hold anything that was in memory.
    return ExitCode.FAULT, f"{FAULT} ({type(error).__name__})", f"see the log for the trace; then {GO_ON}"


class Ending(AbstractContextManager["Ending"]):
    """A listener that passes on the events of a run, and its end once: when the block is left.

    So `Ended` comes even if the run could not begin, and always with the reason.
    """

    def __init__(self, job: str, listener: Listener) -> None:
        self._summary = not_begun(job)
        self._listener = listener

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._listener(Ended(ended(self._summary, error)))

    def __call__(self, event: Event) -> None:
        """Pass an event on, or keep it to the end if it is the end."""
        if isinstance(event, Ended):
            self._summary = event.summary
        else:
            self._listener(event)


def compose(*listeners: Listener) -> Listener:
    """Make one listener that calls all of them, in the order given.

    What a listener raises never reaches the run. The others get it as a `Warned` with the code
    `listener_failed`, once for each listener; if there are no others, it is logged. A listener that failed
    still gets the next events, since a full disk may have room again.
    """
    failed: set[int] = set()

    def call(event: Event) -> None:
        for number, error in call_all(listeners, event):
            if number in failed:
                continue
            failed.add(number)
            message = one_line(str(error)) or type(error).__name__
            others = listeners[:number] + listeners[number + 1 :]
            if len(call_all(others, Warned("listener_failed", message))) == len(others):
                import logging  # here and above: `--help` must start fast

                logging.getLogger(__name__).warning("listener_failed: %s", message, exc_info=error)

    return call


def call_all(listeners: Sequence[Listener], event: Event) -> list[tuple[int, Exception]]:
    """Call every listener; return the places of those that raised, with what they raised."""
    found = []
    for number, listener in enumerate(listeners):
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in reporting, the rows go on
            found.append((number, error))
    return found
