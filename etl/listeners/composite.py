"""One listener made of several, of which none can stop the run or the others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..run_events import Event, Listener, Warned
from ..text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence


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
