"""Users at fault: those whom an answer names, and those whom the destination keeps refusing. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..amplitude.answers import Named
from ..amplitude.responses import Failure, Refused, RefusedSome, SlowDown, SlowDownSome, Verdict, describe
from ..arrow.hashing import DEVICE_SEED, USER_SEED, Keys, hash_texts, keys_in
from ..model import Chunk
from .backoff import Clock
from .user_order import Chosen, Places

# Of more hot users at once those that were found first are forgotten, and tried again.
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Offenders:
    """The places of a part's identifications by what a 429 means for them; ascending, each in one of them."""

    over_quota: Places
    throttled: Places
    others: Places


def verdict_for(part: Chunk, verdict: Verdict) -> Verdict:
    """The verdict as it concerns the part: one that names nobody of it is about the part as a whole."""
    if isinstance(verdict, RefusedSome) and min(verdict.faults) >= part.users:
        return Refused(verdict.status, verdict.message)
    if isinstance(verdict, SlowDownSome) and len(offenders_of(part, verdict).others) == part.users:
        return SlowDown(verdict.retry_after, verdict.message)
    return verdict


def places_by_fault(part: Chunk, verdict: RefusedSome) -> dict[str, Places]:
    """The places of the part's identifications at fault, ascending, by what is wrong with them."""
    found: dict[str, list[int]] = {}
    for place in sorted(verdict.faults):
        if place < part.users:
            found.setdefault(verdict.faults[place], []).append(place)
    return {fault: np.array(places) for fault, places in found.items()}


def offenders_of(part: Chunk, verdict: SlowDownSome) -> Offenders:
    """The identifications that a 429 names; one that is over the quota and throttled is over the quota."""
    over_quota = _are_named(part, verdict.over_quota)
    throttled = _are_named(part, verdict.throttled) & ~over_quota
    masks = (over_quota, throttled, ~(over_quota | throttled))
    return Offenders(*(np.flatnonzero(mask) for mask in masks))


def _are_named(part: Chunk, named: Named) -> NDArray[np.bool_]:
    by_seed = ((named.users, USER_SEED), (named.devices, DEVICE_SEED))
    hashed = [hash_texts(pa.array(ids, pa.string()), seed) for ids, seed in by_seed]
    found: NDArray[np.bool_] = np.asarray(np.isin(part.keys, np.concatenate(hashed)).any(axis=1))
    indexes = np.array(named.indexes, dtype=np.int64)
    found[indexes[indexes < part.users]] = True
    return found


@dataclass(frozen=True, slots=True)
class _Hot:
    """Since when, the server's message, and whether that was about the user rather than a row."""

    since: float
    message: str
    throttled: bool


class HotUsers:
    """Users by key whom the destination refuses while others pass: one clock for all rows of each of them.

    A user is hot from the first proof until one of the user's rows is taken. `outage` is how many seconds
    after the proof a user is given up. Then rows of a throttled user need no try any more. A user of whom a
    request failed otherwise gets one for each row: it may have been that row.
    """

    def __init__(self, clock: Clock, outage: float) -> None:
        self._clock = clock
        self._outage = outage
        self._users: dict[int, _Hot] = {}

    def __bool__(self) -> bool:
        return bool(self._users)

    def prove(self, keys: Keys, since: float, verdict: Failure) -> None:
        """Others passed while requests of these users (keys (k, w)) failed. The first proof counts."""
        hot = _Hot(since, describe(verdict), isinstance(verdict, SlowDown))
        for key in keys[:, 0].tolist():
            self._users.setdefault(key, hot)
        while len(self._users) > _MOST:
            del self._users[next(iter(self._users))]

    def clear(self, keys: Keys) -> None:
        """Rows of these users were taken."""
        for key in keys[self.known(keys), 0].tolist() if self._users else ():
            del self._users[key]

    def known(self, keys: Keys) -> Chosen:
        """Which of these identifications are of hot users; shape (k,)."""
        return keys_in(keys[:, 0], np.fromiter(self._users, np.uint64, len(self._users)))

    def since(self, keys: Keys) -> float | None:
        """Since when all of these users are hot, the last of them; None where one of them isn't."""
        found = [self._users.get(key) for key in keys[:, 0].tolist()] if self._users else [None]
        return None if None in found else max((hot.since for hot in found if hot), default=None)

    def over(self, keys: Keys) -> Chosen:
        """Which of these identifications are of throttled users whose time is over; shape (k,)."""
        found = self.known(keys) if self._users else np.zeros(len(keys), np.bool_)
        for place in np.flatnonzero(found).tolist():
            hot = self._users[int(keys[place, 0])]
            found[place] = hot.throttled and self._clock.now() >= hot.since + self._outage
        return found

    def message(self, keys: Keys) -> str:
        """The server's message about the first of these users, who are hot."""
        return self._users[int(keys[0, 0])].message
