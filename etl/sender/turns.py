"""Whose request goes next: several at once, or one by one while nobody knows whether any is accepted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

# Steps of this share of a part never come back to places next to each other.
_GOLDEN: Final = 0.6180339887


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A part of `users` identifications that waits. Its turn comes with a place, if it is to be cut there."""

    users: int
    may_cut: bool
    last: bool
    come: asyncio.Future[int | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Turns:
    """At most `count` requests at once; those that wait go in the order in which they came.

    While `single` is set they go one by one, and the smallest part first: so a single row is found with few
    requests. With `sampling` too, single rows are cut out of what waits, and go first: the rows that are
    tried then are spread over all that is known, not next to each other.
    """

    def __init__(self, count: int) -> None:
        self.single = True
        self.sampling = False
        self._count = count
        self._under_way = 0
        self._waiting: list[_Waiting] = []
        self._cuts = 0

    async def take(self, users: int, *, may_cut: bool, last: bool) -> int | None:
        """Wait for a turn; give it back after the request. Where turns are `single`, some come last.

        None: the part may be sent. A place: it is to be cut, and what stands there has the turn.
        """
        if not self._waiting and self._under_way < self._most:
            self._under_way += 1
            return None
        mine = _Waiting(users, may_cut, last)
        self._waiting.append(mine)
        self._admit()
        try:
            return await mine.come
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            elif not mine.come.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """The request with the turn has its verdict, or isn't sent."""
        self._under_way -= 1
        self._admit()

    @property
    def _most(self) -> int:
        return 1 if self.single else self._count

    def _admit(self) -> None:
        while self._waiting and self._under_way < self._most:
            chosen, place = self._next()
            self._waiting.remove(chosen)
            if not chosen.come.done():  # whoever waited may be gone
                self._under_way += 1
                chosen.come.set_result(place)

    def _next(self) -> tuple[_Waiting, int | None]:
        if not self.single:
            return self._waiting[0], None
        smallest = min(self._waiting, key=lambda one: (one.last, one.users))
        whole = [one for one in self._waiting if one.may_cut and one.users > 1 and not one.last]
        if not self.sampling or smallest.users == 1 or not whole:
            return smallest, None
        # The last of the largest is the farthest from what was refused.
        largest = max(reversed(whole), key=lambda one: one.users)
        self._cuts += 1
        return largest, int(largest.users * ((_GOLDEN * self._cuts) % 1))
