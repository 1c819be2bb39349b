"""Who a delivery works with: what carries its requests, what says when, and who wants to know."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Protocol

from etl.model import Body, Chunk
from etl.responses import Fate, Verdict

if TYPE_CHECKING:
    from etl.sender.outcome import Outcome


class Transport(Protocol):
    """What carries a body to the destination and judges the answer; see `sender.http`."""

    @property
    def throttle_seconds(self) -> float:
        """How long to wait after a 429 that doesn't say."""

    async def pack(self, body: Body) -> Body:
        """The request that carries a body, as it goes over the wire."""

    async def post(self, request: Body) -> Verdict:
        """Send a request once."""


class Pace(Protocol):
    """How fast identifications may go; see `pacing.Rate` and `control.AdmittedRate`."""

    def book(self, amount: int) -> float:
        """Book `amount` identifications; the seconds to wait before they may pass."""

    def passed(self, amount: int, latency: float) -> None:
        """A request with `amount` identifications was taken, `latency` seconds after it was sent."""

    def refused(self, amount: int) -> bool:
        """A request with `amount` identifications was throttled; whether the pace may be the reason."""


class Flights(Protocol):
    """What remembers whose requests are under way; see `checkpoint.in_flight`."""

    def began(self, part: Chunk) -> None:
        """A request with the users of a part is about to be sent."""

    def ended(self, part: Chunk, fate: Fate) -> None:
        """It was answered, or never left."""


class Unrecorded:
    """Remembers nothing."""

    def began(self, part: Chunk) -> None:
        """Nothing."""

    def ended(self, part: Chunk, fate: Fate) -> None:
        """Nothing."""


class Watcher(Protocol):
    """What wants to know how a chunk's parts fare."""

    def probe(self, part: Chunk) -> bool:
        """A part failed twice; whether others are let ahead, to see if it alone is at fault."""

    def set_apart(self, part: Chunk, sending: Coroutine[None, None, None]) -> None:
        """A part keeps failing while others pass; it will take long. `sending` brings it to its end."""

    def finished(self, part: Chunk, outcome: Outcome) -> None:
        """Every identification of the part has its end."""

    def held(self, part: Chunk) -> None:
        """Every identification of the part was refused, and waits to hear whether others are accepted."""

    def released(self, part: Chunk) -> None:
        """A part that was held waits no longer; it is about to be finished."""
