"""What becomes of rows that were sent, and the reason with which they are handed back. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..amplitude.responses import (
    Accepted,
    KeyRefused,
    Refusal,
    SlowDown,
    SlowDownSome,
    Stop,
    TooBig,
    TryAgain,
    Verdict,
)
from ..arrow.originals import original_rows
from ..errors import DestinationError
from ..model import Chunk, End, Reject, Sent, Tally


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

    One row of each user is accepted, the others were merged into it. Where the count is wrong, nobody knows
    which events arrived.
    """
    missing = 0 if verdict.ingested is None else max(0, part.users - verdict.ingested)
    if not counted:
        reason = f"the server answered 200 and counted {verdict.ingested:,} of {part.users:,} events"
        doubt = Tally(in_doubt=1, uncounted=missing)
        return Outcome(doubt) + handed_back(part, "uncounted", reason, "in_doubt")
    tally = Tally(accepted=part.users, merged=len(part.numbers) - part.users, uncounted=missing)
    return Outcome(tally, sent=_sent(part, "accepted"))


def handed_back(part: Chunk, code: str, reason: str, end: End = "refused") -> Outcome:
    """Every row of the part is a reject."""
    rows = original_rows(
        part.rows,
        np.arange(part.rows.num_rows),
        source=part.source,
        text=part.text,
        keep_empty=part.keep_empty,
    )
    rejects = tuple(
        Reject(part.source, int(number), code, reason, row.values, origin=row.origin)
        for number, row in zip(part.numbers, rows, strict=True)
    )
    return Outcome(Tally(rejected=len(rejects)), rejects, _sent(part, end))


def never_sent(part: Chunk, message: str) -> Outcome:
    """The user of the part is given up, so its rows were not tried."""
    reason = f"not sent, as the server kept refusing this user: {message}"
    return handed_back(part, "transient", reason, "unsent")


def refused(part: Chunk, refusal: Refusal, fault: str = "", end: End = "refused") -> Outcome:
    """The rows of the part were refused for what they hold; `fault` is what the answer names.

    They are in doubt all the same where an earlier try of them may have arrived: that is their `end`.
    """
    reason = f"the server answered {refusal.status}: {refusal.message}".rstrip(": ")
    reason = f"{reason}: {fault}" if fault else reason
    return handed_back(part, "too_big" if isinstance(refusal, TooBig) else "malformed", reason, end)


def metered(verdict: Verdict) -> Tally:
    """What a verdict adds to the meter."""
    throttled = isinstance(verdict, SlowDown | SlowDownSome)
    return Tally(throttled=int(throttled), in_doubt=int(isinstance(verdict, TryAgain) and verdict.in_doubt))


def stopped(verdict: Stop) -> DestinationError:
    """The error that ends the run."""
    if isinstance(verdict, KeyRefused):
        answer = f"{verdict.status} {verdict.message}".rstrip()
        return DestinationError(f"the destination refuses the API key: {answer}", hint=verdict.hint)
    return DestinationError(f"the run can't go on: {verdict.message}", hint=verdict.hint)


def _sent(part: Chunk, end: End) -> tuple[Sent, ...]:
    """What the snapshot is to know of a part. It owns what it has: it may wait for long to be committed."""
    if part.fingerprints is None or len(part.numbers) == 0:
        return ()
    return (Sent(part.numbers.copy(), part.keys[part.owners], part.fingerprints.copy(), end),)
