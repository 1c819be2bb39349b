"""From what an answer names to the identifications of the part that was sent. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.batch_answer import Named
from etl.keys import DEVICE_SEED, USER_SEED, hash_texts
from etl.model import Chunk
from etl.responses import Refused, RefusedSome, SlowDown, SlowDownSome, Verdict

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Crowd:
    """The places of a part's identifications by what a 429 means for them; ascending, each in one of them."""

    over_quota: Places
    throttled: Places
    others: Places


def meant(part: Chunk, verdict: Verdict) -> Verdict:
    """The verdict as it concerns the part: one that names nobody of it is about the part as a whole."""
    if isinstance(verdict, RefusedSome) and min(verdict.faults) >= part.users:
        return Refused(verdict.status, verdict.words)
    if isinstance(verdict, SlowDownSome) and len(crowd_of(part, verdict).others) == part.users:
        return SlowDown(verdict.retry_after, verdict.words)
    return verdict


def by_fault(part: Chunk, verdict: RefusedSome) -> dict[str, Places]:
    """The places of the part's identifications at fault, ascending, by what is wrong with them."""
    found: dict[str, list[int]] = {}
    for place in sorted(verdict.faults):
        if place < part.users:
            found.setdefault(verdict.faults[place], []).append(place)
    return {fault: np.array(places) for fault, places in found.items()}


def crowd_of(part: Chunk, verdict: SlowDownSome) -> Crowd:
    """Who of the part is meant; whoever is over the quota and throttled is over the quota."""
    over_quota = _are_named(part, verdict.over_quota)
    throttled = _are_named(part, verdict.throttled) & ~over_quota
    masks = (over_quota, throttled, ~(over_quota | throttled))
    return Crowd(*(np.flatnonzero(mask) for mask in masks))


def _are_named(part: Chunk, named: Named) -> NDArray[np.bool_]:
    by_seed = ((named.users, USER_SEED), (named.devices, DEVICE_SEED))
    hashed = [hash_texts(pa.array(ids, pa.string()), seed) for ids, seed in by_seed]
    found: NDArray[np.bool_] = np.asarray(np.isin(part.keys, np.concatenate(hashed)).any(axis=1))
    indexes = np.array(named.indexes, dtype=np.int64)
    found[indexes[indexes < part.users]] = True
    return found
