"""Parts of a chunk, which are sent by themselves, and what becomes of their rows. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..amplitude.answers import Named
from ..amplitude.responses import Accepted, Refusal, Refused, RefusedSome, SlowDown, SlowDownSome, Verdict
from ..arrow.originals import rejects_of, take_rows
from ..model import Chunk, End, Reject, Sent, Tally
from ..subject import id_keys

_FEW_RUNS: Final = 8  # fewer runs of rows are put together of slices, not of rows


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of rows: a tally of accepted, merged and rejected ones, the rejects, and what was sent."""

    tally: Tally = Tally()
    rejects: tuple[Reject, ...] = ()
    sent: tuple[Sent, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.tally + other.tally, self.rejects + other.rejects, self.sent + other.sent)


def accepted(part: Chunk, verdict: Accepted, *, counted: bool) -> Outcome:
    """Every identification of the part was taken, unless the server did not count them (`counted` False).

    One row of each user is accepted, the others were merged into it. If the count is wrong or missing, it is
    unknown which events arrived.
    """
    missing = 0 if verdict.ingested is None else max(0, part.users - verdict.ingested)
    if not counted:
        reason = f"the server answered 200 and counted {verdict.ingested:,} of {part.users:,} events"
        if verdict.lacks_count:
            reason = f"the server answered 200 without a count (events_ingested) of the {part.users:,} events"
        doubt = Tally(in_doubt=1, uncounted=missing)
        return Outcome(doubt) + handed_back(part, "uncounted", reason, "in_doubt")
    tally = Tally(accepted=part.users, merged=len(part.numbers) - part.users, uncounted=missing)
    return Outcome(tally, sent=_sent(part, "accepted"))


def refused(part: Chunk, refusal: Refusal, fault: str = "", end: End = "refused") -> Outcome:
    """The rows of the part were refused for their content; `fault` is what the answer names.

    Their `end` is `in_doubt` if an earlier try of them may have arrived.
    """
    reason = f"the server answered {refusal.status}: {refusal.message}".rstrip(": ")
    reason = f"{reason}: {fault}" if fault else reason
    return handed_back(part, "too_big" if refusal.status == 413 else "malformed", reason, end)


def handed_back(part: Chunk, code: str, reason: str, end: End = "refused") -> Outcome:
    """Every row of the part is a reject."""
    count = part.rows.num_rows
    rejects = rejects_of(part, part.rows, np.arange(count), [(code, reason)] * count, part.keep_empty)
    return Outcome(Tally(rejected=count), rejects, _sent(part, end))


def _sent(part: Chunk, end: End) -> tuple[Sent, ...]:
    """What the snapshot keeps of a part. It owns its arrays: it may wait for long to be committed."""
    if part.fingerprints is None or len(part.numbers) == 0:
        return ()
    return (Sent(part.numbers.copy(), part.keys[part.owners], part.fingerprints.copy(), end),)


# --- parts -----------------------------------------------------------------------------------------------


def places(part: Chunk) -> NDArray[np.int64]:
    """Where each identification stands in its chunk: its first row's number; ascending, shape (k,)."""
    if len(part.numbers) == part.users:
        return part.numbers
    return part.numbers[np.unique(part.owners, return_index=True)[1]]


def halves(count: int) -> list[NDArray[np.int64]]:
    """The positions, of so many, in the first half and in the second."""
    return np.array_split(np.arange(count), [count // 2])


def others(count: int, *taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions, of so many, that aren't among those taken; ascending."""
    return np.setdiff1d(np.arange(count), np.concatenate(taken), assume_unique=True)


def only(part: Chunk, chosen: NDArray[np.int64]) -> Chunk:
    """The identifications at the ascending positions `chosen`; the same bytes for each as before.

    The result owns its bytes and rows, so that holding a few identifications holds no batch.
    """
    starts = np.concatenate([[0], part.ends[:-1]]) + 1
    body = part.body[0] if len(part.body) == 1 else b"".join(part.body)
    # Neighbours stay side by side: a chunk without a few of its identifications is cut in a few places.
    firsts, lasts = _runs(chosen)
    pieces = [body[start:end] for start, end in zip(starts[firsts], part.ends[lasts], strict=True)]
    mask = np.isin(part.owners, chosen)
    positions = np.flatnonzero(mask)
    starting, ending = _runs(positions)
    if not len(positions) or len(starting) > _FEW_RUNS:
        rows = take_rows(part.rows, positions)
    else:
        slices = [part.rows.slice(at, end - at + 1) for at, end in zip(starting, ending, strict=True)]
        # With an empty one behind it, as a single slice would be returned without a copy.
        rows = pa.concat_batches([*slices, part.rows.slice(0, 0)])
    return replace(
        part,
        body=(b"[" + b",".join(pieces) + b"]",),
        ends=np.cumsum(part.ends[chosen] - starts[chosen] + 1),
        keys=part.keys[chosen],
        numbers=part.numbers[mask],
        owners=np.searchsorted(chosen, part.owners[mask]),
        rows=rows,
        rejects=(),
        unsent=(),
        skipped=(),
        fingerprints=None if part.fingerprints is None else part.fingerprints[mask],
    )


def _runs(chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last of each run of neighbours among ascending positions."""
    gaps, count = np.flatnonzero(np.diff(chosen) != 1), len(chosen)
    return chosen[np.append(0, gaps + 1)[:count]], chosen[np.append(gaps, count - 1)[:count]]


# --- what an answer names ---------------------------------------------------------------------------------


class Offenders(NamedTuple):
    """Positions of a part's identifications by what a 429 means for them: ascending, each in one array."""

    over_quota: NDArray[np.int64]
    throttled: NDArray[np.int64]
    others: NDArray[np.int64]


def verdict_for(part: Chunk, verdict: Verdict) -> Verdict:
    """The verdict as it concerns the part: one that names nobody of it is about the part as a whole."""
    if isinstance(verdict, RefusedSome) and min(verdict.faults) >= part.users:
        return Refused(verdict.status, verdict.message)
    if isinstance(verdict, SlowDownSome) and len(offenders_of(part, verdict).others) == part.users:
        return SlowDown(verdict.retry_after, verdict.message, verdict.asked)
    return verdict


def places_by_fault(part: Chunk, verdict: RefusedSome) -> dict[str, NDArray[np.int64]]:
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
    by_field = {"user_id": named.users, "device_id": named.devices}
    hashed = [id_keys(field, pa.array(ids, pa.string())) for field, ids in by_field.items()]
    found: NDArray[np.bool_] = np.asarray(np.isin(part.keys, np.concatenate(hashed)).any(axis=1))
    indexes = np.array(named.indexes, dtype=np.int64)
    found[indexes[indexes < part.users]] = True
    return found
