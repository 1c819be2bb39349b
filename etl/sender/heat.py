"""Users whom the destination keeps refusing while others pass: one clock for all rows of each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from etl.keys import Keys, among
from etl.responses import SlowDown, TryAgain, said
from etl.sender.order import Mask
from etl.sender.pacing import Clock

# Of more users at once the ones who were found first are forgotten, and tried again.
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Hot:
    """Since when, what the server said, and whether that was about the user rather than a row."""

    since: float
    words: str
    throttled: bool


class Heat:
    """Who is hot, by key. A user is hot from the first proof until one of the user's rows is taken.

    `outage` is how many seconds after the proof a user is given up. Then rows of a throttled user need no
    try any more. A user of whom a request failed otherwise gets one for each row: it may have been that row.
    """

    def __init__(self, clock: Clock, outage: float) -> None:
        self._clock = clock
        self._outage = outage
        self._users: dict[int, _Hot] = {}

    def __bool__(self) -> bool:
        return bool(self._users)

    def prove(self, keys: Keys, since: float, verdict: SlowDown | TryAgain) -> None:
        """Others passed while requests of these users (keys (k, w)) failed. The first proof counts."""
        hot = _Hot(since, said(verdict), isinstance(verdict, SlowDown))
        for key in keys[:, 0].tolist():
            self._users.setdefault(key, hot)
        while len(self._users) > _MOST:
            del self._users[next(iter(self._users))]

    def clear(self, keys: Keys) -> None:
        """Rows of these users were taken."""
        for key in keys[self.known(keys), 0].tolist() if self._users else ():
            del self._users[key]

    def known(self, keys: Keys) -> Mask:
        """Which of these identifications are of hot users; shape (k,)."""
        return among(keys[:, 0], np.fromiter(self._users, np.uint64, len(self._users)))

    def since(self, keys: Keys) -> float | None:
        """Since when all of these users are hot, the last of them; None where one of them isn't."""
        found = [self._users.get(key) for key in keys[:, 0].tolist()] if self._users else [None]
        return None if None in found else max((hot.since for hot in found if hot), default=None)

    def over(self, keys: Keys) -> Mask:
        """Which of these identifications are of throttled users whose time is over; shape (k,)."""
        found = self.known(keys) if self._users else np.zeros(len(keys), np.bool_)
        for place in np.flatnonzero(found).tolist():
            found[place] = self._is_over(self._users[int(keys[place, 0])])
        return found

    def words(self, keys: Keys) -> str:
        """What the server said of the first of these users, who are hot."""
        return self._users[int(keys[0, 0])].words

    def _is_over(self, hot: _Hot) -> bool:
        return hot.throttled and self._clock.now() >= hot.since + self._outage
