"""What becomes of rows that were sent, and in which words they are handed back. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from etl.errors import DestinationError
from etl.model import Chunk, End, Reject, Sent, Tally
from etl.responses import Accepted, KeyRefused, SlowDown, SlowDownSome, Stop, TooBig, TryAgain, Verdict
from etl.sender.parts import accepted, rejected, sent
from etl.sender.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of rows: a tally of accepted, merged and rejected ones, the rejects, and what was sent."""

    tally: Tally = Tally()
    rejects: tuple[Reject, ...] = ()
    sent: tuple[Sent, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.tally + other.tally, self.rejects + other.rejects, self.sent + other.sent)


# Every row of a part has its end, and what became of them was told.
DONE: Final = Outcome()


def taken(part: Chunk, verdict: Accepted) -> Outcome:
    """Every identification of the part is in."""
    return Outcome(accepted(part, verdict), sent=sent(part))


def uncounted(part: Chunk, verdict: Accepted) -> Outcome:
    """The server says that it took the part, and counts otherwise; nobody knows which events it has."""
    words = f"the server answered 200 and counted {verdict.ingested:,} of {part.users:,} events"
    doubt = Tally(in_doubt=1, uncounted=accepted(part, verdict).uncounted)
    return Outcome(doubt) + handed_back(part, "uncounted", words, "in_doubt")


def handed_back(part: Chunk, code: str, words: str, end: End = "refused") -> Outcome:
    """Every row of the part is a reject."""
    rejects = rejected(part, code, words)
    return Outcome(Tally(rejected=len(rejects)), rejects, sent(part, end))


def never_sent(part: Chunk, words: str) -> Outcome:
    """The user of the part is given up, so its rows were not tried."""
    reason = f"not sent, as the server kept refusing this user: {words}"
    return handed_back(part, "transient", reason, "unsent")


def refused(part: Chunk, refusal: Refusal, fault: str = "", end: End = "refused") -> Outcome:
    """The rows of the part were refused for what they hold; `fault` is what the answer names.

    They are in doubt all the same where an earlier try of them may have arrived: that is their `end`.
    """
    words = f"the server answered {refusal.status}: {refusal.words}".rstrip(": ")
    words = f"{words}: {fault}" if fault else words
    return handed_back(part, "too_big" if isinstance(refusal, TooBig) else "malformed", words, end)


def troubles(verdict: Verdict) -> Tally:
    """What a verdict adds to the meter."""
    throttled = isinstance(verdict, SlowDown | SlowDownSome)
    return Tally(throttled=int(throttled), in_doubt=int(isinstance(verdict, TryAgain) and verdict.in_doubt))


def stopped(verdict: Stop) -> DestinationError:
    """The end of the run."""
    if isinstance(verdict, KeyRefused):
        words = f"{verdict.status} {verdict.words}".rstrip()
        return DestinationError(f"the destination refuses the API key: {words}", hint=verdict.hint)
    return DestinationError(f"the run can't go on: {verdict.words}", hint=verdict.hint)
