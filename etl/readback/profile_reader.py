"""Reads users back through the User Profile API: at its rate, and again where there is no usable answer."""

from __future__ import annotations

from typing import Final, Self

from ..amplitude.limits import THROTTLE_SECONDS
from ..amplitude.responses import Response, SlowDown, Stop, TryAgain, describe
from ..amplitude.user_profile import READS_PER_MINUTE, Unseen, UserProfile, classify_profile, profile_path
from ..errors import DestinationError
from ..sender import Backoff, Clock, FixedRate
from ..sender.http import HttpSession
from ..text import span

CONNECTIONS: Final = 8
_MOST_ANSWER_BYTES: Final = 16 << 20  # a thousand properties with the longest values fit
_USUAL_WAITS: Final = Backoff()


class ProfileReader:
    """Reads profiles at `per_minute`; use it as an asynchronous context manager.

    The secret key goes into a header and nowhere else. Raises UsageError for an endpoint that can't be used.
    """

    def __init__(
        self,
        endpoint: str,
        secret_key: str,
        *,
        per_minute: float = READS_PER_MINUTE,
        clock: Clock | None = None,
        waits: Backoff = _USUAL_WAITS,
        max_outage: float = 300.0,
        allow_http: bool = False,
    ) -> None:
        self._clock = clock or Clock()
        self._rate = FixedRate(per_minute / 60, self._clock)
        self._waits = waits
        self._max_outage = max_outage
        self._resume = 0.0  # no read begins before that
        self._session = HttpSession(
            endpoint,
            connections=CONNECTIONS,
            headers={"Authorization": f"Api-Key {secret_key}"},
            secrets=(secret_key,),
            most_answer_bytes=_MOST_ANSWER_BYTES,
            allow_http=allow_http,
        )

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.__aexit__(*error)

    async def read(self, ids: dict[str, str]) -> UserProfile | Unseen:
        """Read a user by its id.

        Raises DestinationError where the key is refused, or there is no usable answer for `max_outage`.
        """
        clock, failures, failing_since = self._clock, 0, 0.0
        while True:
            await clock.sleep(self._rate.book(1))
            while (pause := self._resume - clock.now()) > 0:
                await clock.sleep(pause)
            answer = await self._session.request("GET", profile_path(ids))
            verdict = classify_profile(answer) if isinstance(answer, Response) else answer
            if isinstance(verdict, Stop):
                raise DestinationError(f"the User Profile API: {verdict.message}", hint=verdict.hint)
            if not isinstance(verdict, SlowDown | TryAgain):
                return verdict
            failures += 1
            failing_since = failing_since or clock.now()
            if clock.now() - failing_since >= self._max_outage:
                raise DestinationError(
                    f"no user could be read back for {span(self._max_outage)}: {describe(verdict)}",
                    hint="run the same command again later",
                )
            wait = verdict.retry_after
            if wait is None and isinstance(verdict, SlowDown):
                wait = THROTTLE_SECONDS if self._waits.throttle is None else self._waits.throttle
            wait = self._waits.seconds(failures, clock.chance()) if wait is None else wait
            self._resume = max(self._resume, clock.now() + wait)
