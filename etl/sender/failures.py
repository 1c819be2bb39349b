"""What follows of a failure: a part waits with others or alone, is halved, parked or handed back. No I/O.

A part that keeps failing while others pass is halved until the user who is throttled stands alone, and then
parked: others go ahead. From then on `HotUsers` has one clock for all rows of that user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..amplitude.responses import Failure, SlowDown, TryAgain, describe
from .backoff import Pause
from .in_flight import Part, PartsInFlight
from .parts import handed_back
from .rate import RateLimiter

# A part that is throttled so often while others pass is halved: throttling names the cause, and refuses the
# request as a whole. A 5xx may be chance, and what is resent after it should be the same bytes:
# `FailureShare` tells when it is not. In an outage neither can be told: after so many a part may be halved.
_THROTTLED_PATIENCE: Final = 3
_FAILED_PATIENCE: Final = 10
# Throttled more often in a row than this, a part can't blame the rate at which all of them go.
_RATE_PATIENCE: Final = 2


@dataclass(slots=True, eq=False)
class Failures:
    """Decides what becomes of parts whose requests failed.

    Its methods return the seconds until the same is sent again; None: it has its end, or is sent in halves.
    """

    parts: PartsInFlight
    pause: Pause
    identifications: RateLimiter
    _halved_at: tuple[int, int] = (-1, -1)

    def throttled(self, part: Part, started: float, verdict: SlowDown) -> float | None:
        """After a throttling the part waits, with all others or alone.

        The first throttling is taken for everyone's. After a second one others are let ahead. If it goes on
        while others pass, the part itself is at fault: it is halved until its one user is found.
        """
        pause = self.pause
        others_pass = self._count_failure(part, verdict)
        patient = part.failures <= _RATE_PATIENCE and part.alone_since is None and pause.left > 0
        if patient and self.identifications.refused(part.users):  # all go too fast
            pause.begin()
            return min(pause.respite(verdict, part.failures), pause.left)
        if others_pass or part.alone_since is not None:
            return self.throttled_alone(part, verdict)
        if part.failures == 2 and pause.left > 0 and not self.parts.parked:  # else another part lets them
            self.parts.park(part)
            return min(pause.wait(verdict, part.failures), pause.left)
        return self._wait_with_all(part, started, verdict, _THROTTLED_PATIENCE)

    def throttled_alone(self, part: Part, verdict: SlowDown) -> float | None:
        """After a throttling that is this part's own it waits alone, and is singled out if that goes on."""
        part.leave_others(self.pause.clock.now())
        if part.failures >= _THROTTLED_PATIENCE:
            return self._single_out(part, verdict)
        return self._wait_alone(part, verdict)

    def failed(self, part: Part, started: float, verdict: TryAgain) -> float | None:
        """After a failure that may be chance the part waits alone while chance explains it.

        Then the part itself is at fault, if others pass, or else it is an outage.
        """
        pause = self.pause
        others_pass = self._count_failure(part, verdict)
        part.by_chance += 1
        no_chance = part.halved or pause.share.is_no_chance(part.by_chance)
        # Of what passes after the first failure nothing points to an outage, even if nothing else is left.
        up = others_pass or pause.last_start > part.since
        if part.alone_since is not None or (up and no_chance):
            if pause.share.tells_halves_apart(part.by_chance):
                return self._single_out(part, verdict)
            return self._wait_alone(part, verdict, pause.wait_alone(started, verdict, part.by_chance))
        asked = bool(verdict.retry_after)
        if (asked and not others_pass) or (not asked and pause.is_outage()):
            # What failed before anything had passed may have been chance as well.
            part.by_chance *= up or not pause.passes
            return self._wait_with_all(part, started, verdict, _FAILED_PATIENCE)
        return min(pause.wait_alone(started, verdict, part.by_chance), pause.left)

    def _count_failure(self, part: Part, verdict: Failure) -> bool:
        """Note a failure; whether others passed since the one before."""
        others_pass = part.failures > 0 and self.pause.passes > part.passes
        part.failures += 1
        part.since = min(part.since, self.pause.clock.now())
        part.tried |= not (isinstance(verdict, TryAgain) and verdict.unsent)
        part.passes = self.pause.passes
        return others_pass

    def _wait_with_all(self, part: Part, started: float, verdict: Failure, patience: int) -> float | None:
        """No request passes: all wait. After `patience` failures a part is halved, once in each pause.

        While none passes, a hot user and a destination that throttles all look the same. If one of the halves
        passes, it was a user.
        """
        pause = self.pause
        now = (pause.passes, pause.failures)
        if part.failures >= patience and part.users > 1 and pause.left > 0 and now != self._halved_at:
            self._halved_at = now
            return self._single_out(part, verdict)
        pause.failed(started, verdict)
        return 0.0

    def _single_out(self, part: Part, verdict: Failure) -> float | None:
        """The part itself is at fault: halve it, or park it if it is one user's."""
        part.halved |= isinstance(verdict, TryAgain)
        if part.users == 1:
            return self.park(part, verdict)
        part.rounds = part.by_chance = 0
        self.parts.halve(part)
        return None

    def park(self, part: Part, verdict: Failure) -> float | None:
        """The part waits and is sent again by itself, and holds up nothing else."""
        if not part.hot:
            self.parts.hot_users.prove(part.keys, part.leave_others(self.pause.clock.now()), verdict)
            part.alone_since, part.hot = self.parts.hot_users.since(part.keys), True
            self.parts.park(part)
        return self._wait_alone(part, verdict)

    def _wait_alone(self, part: Part, verdict: Failure, seconds: float | None = None) -> float | None:
        """The part waits without the others, and is handed back once its outage is too long."""
        now = self.pause.clock.now()
        end = part.leave_others(now) + self.pause.outage
        if now >= end:
            reason = f"the server kept answering: {describe(verdict)}"
            self.parts.finish(part, handed_back(part.sent, "transient", reason, part.end))
            return None
        return min(self.pause.wait(verdict, part.failures) if seconds is None else seconds, end - now)
