"""What a run tells, and to whom: listeners hear the pipeline's events and never steer it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from etl.listeners.whole_file import check_writable
from etl.model import Event, Listener, Warned
from etl.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

__all__ = ["check_writable", "compose", "draws"]


def compose(*listeners: Listener) -> Listener:
    """Make one listener that tells all of them, in the order given.

    Telling is not worth a run: what a listener raises stays here. The others hear of it as a `Warned` with
    the code `listener_failed`, once for each listener; where there are no others it is logged. A listener
    that failed is still told what follows, since a full disk may have room again.
    """
    failed: set[int] = set()

    def tell(event: Event) -> None:
        for number, error in _failures(listeners, event):
            if number not in failed:
                failed.add(number)
                _report_failure(listeners[:number] + listeners[number + 1 :], error)

    return tell


def draws(stream: TextIO) -> bool:
    """Whether a progress bar can be drawn there: on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def _failures(listeners: Sequence[Listener], event: Event) -> list[tuple[int, Exception]]:
    """Tell everyone; those who raised by their place, with what they raised."""
    found = []
    for number, listener in enumerate(listeners):
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in telling, the rows go on
            found.append((number, error))
    return found


def _report_failure(others: Sequence[Listener], error: Exception) -> None:
    message = one_line(str(error)) or type(error).__name__
    heard = len(others) - len(_failures(others, Warned("listener_failed", message)))
    if not heard:
        logging.getLogger(__name__).warning("listener_failed: %s", message, exc_info=error)
