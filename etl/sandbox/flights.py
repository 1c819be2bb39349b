"""Which requests are under way together, to notice a user who is in two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Set

UserKey: TypeAlias = tuple[str | None, str]
NOBODY: Final[UserKey] = (None, "")  # of an identification without a usable id


@dataclass(slots=True, eq=False)
class Flight:
    """One request from its first byte to its answer. `gone` says whether its client has hung up."""

    began: int
    gone: Callable[[], bool]
    users: Set[UserKey] = frozenset()
    ended: int | None = None


class Flights:
    """The requests under way, and those that ended while one of them was already under way.

    Requests are compared over their whole time, since a quick server reads the second of two only when
    it is through with the first.
    """

    def __init__(self) -> None:
        self._tick = 0
        self._flights: list[Flight] = []

    def begin(self, gone: Callable[[], bool]) -> Flight:
        """Note a request's first byte. A client that has hung up by now may send the same users again."""
        self._flights = [other for other in self._flights if other.ended is not None or not other.gone()]
        flight = Flight(self._next_tick(), gone)
        self._flights.append(flight)
        return flight

    def board(self, flight: Flight, users: Set[UserKey]) -> int:
        """Say who is in the request; return how many of them are in another one at the same time."""
        flight.users = users
        others = [other.users for other in self._flights if other is not flight and _overlap(other, flight)]
        return len(set().union(*(users & other for other in others)))

    def end(self, flight: Flight) -> None:
        """Note that the request has its answer."""
        flight.ended = self._next_tick()
        oldest = min((other.began for other in self._flights if other.ended is None), default=self._tick)
        self._flights = [other for other in self._flights if other.ended is None or other.ended > oldest]

    def _next_tick(self) -> int:
        self._tick += 1
        return self._tick


def _overlap(other: Flight, flight: Flight) -> bool:
    return other.ended is None or other.ended > flight.began
