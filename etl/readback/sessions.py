"""Sessions that send requests at a rate of their own: to read profiles back, and for a probe."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, quote_plus

from ..amplitude.requests import IDENTIFY_PATH, READS_PER_MINUTE, THROTTLE_SECONDS, profile_path
from ..amplitude.responses import (
    Accepted,
    KeyRefused,
    Response,
    SlowDown,
    Stop,
    TryAgain,
    Unseen,
    UserProfile,
    Verdict,
    classify_profile,
    classify_response,
    describe,
)
from ..errors import DestinationError, EtlError
from ..sender import Backoff, Clock, RateLimiter
from ..sender.http import HttpSession
from ..text import size, span

_MOST_OUTAGE: Final = 300.0  # seconds
CONNECTIONS: Final = 8  # of a reader
_MOST_ANSWER_BYTES: Final = 16 << 20  # a thousand properties with the longest values fit
_USUAL_WAITS: Final = Backoff()
MOST_REQUESTS: Final = 200
MOST_BYTES: Final = 20_000_000
_PER_SECOND: Final = 5.0
PREFIX: Final = "propsync-probe-"
PROPERTY: Final = "propsync_probe"
LATER_HINT: Final = "run the same command again later"
_TRIES: Final = 4
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_Item = Mapping[str, Any]
_Headers = Mapping[str, str]


class _PacedSession(HttpSession):
    """Sends requests to an endpoint at a rate."""

    def __init__(self, endpoint: str, per_second: float, clock: Clock, **session: Any) -> None:
        super().__init__(endpoint, **session)
        self.endpoint, self.clock = endpoint, clock
        self.rate = RateLimiter(per_second, clock)


class ProfileReader(_PacedSession):
    """Reads profiles at `per_minute`; the secret key goes into a header and nowhere else."""

    def __init__(
        self,
        endpoint: str,
        secret_key: str,
        *,
        per_minute: float = READS_PER_MINUTE,
        clock: Clock | None = None,
        waits: Backoff = _USUAL_WAITS,
        allow_http: bool = False,
    ) -> None:
        self._waits = waits
        self._resume = 0.0  # no read begins before that
        super().__init__(
            endpoint,
            per_minute / 60,
            clock or Clock(),
            connections=CONNECTIONS,
            headers={"Authorization": f"Api-Key {secret_key}"},
            secrets=(secret_key,),
            most_answer_bytes=_MOST_ANSWER_BYTES,
            allow_http=allow_http,
        )

    async def read(self, ids: dict[str, str]) -> UserProfile | Unseen:
        """Read a user by its id.

        Raises DestinationError where the key is refused, or there is no usable answer for five minutes.
        """
        clock, failures, failing_since = self.clock, 0, 0.0
        while True:
            await clock.sleep(self.rate.book(1))
            while (pause := self._resume - clock.now()) > 0:
                await clock.sleep(pause)
            answer = await self.request("GET", profile_path(ids))
            verdict = classify_profile(answer) if isinstance(answer, Response) else answer
            if isinstance(verdict, Stop):
                raise DestinationError(f"the User Profile API: {verdict.message}", hint=verdict.hint)
            if not isinstance(verdict, SlowDown | TryAgain):
                return verdict
            failures += 1
            failing_since = failing_since or clock.now()
            if clock.now() - failing_since >= _MOST_OUTAGE:
                said = f"no user could be read back for {span(_MOST_OUTAGE)}: {describe(verdict)}"
                raise DestinationError(said, hint=LATER_HINT)
            wait = verdict.retry_after
            if wait is None and isinstance(verdict, SlowDown):
                wait = THROTTLE_SECONDS if self._waits.throttle is None else self._waits.throttle
            wait = self._waits.seconds(failures, clock.chance()) if wait is None else wait
            self._resume = max(self._resume, clock.now() + wait)


# --- for a probe ----------------------------------------------------------------------------------------


class BudgetSpentError(EtlError):
    """One more request would be too many, or too big."""


def user_item(name: str, properties: Mapping[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """An identification of a user of the probe; without properties it changes nothing."""
    properties = {"$unset": {PROPERTY: "-"}} if properties is None else properties
    return {"user_id": PREFIX + name, **keys} | ({"user_properties": properties} if properties else {})


class ProbeSession(_PacedSession):
    """Sends to `/identify` within the bounds above; `answers` has the text of each kind of refusal."""

    def __init__(self, endpoint: str, key: str, *, clock: Clock, allow_http: bool = False) -> None:
        self.requests = self.bytes = 0
        self.answers: dict[str, str] = {}
        self._prefix = f"api_key={quote(key, safe='')}&identification=".encode()
        more: dict[str, Any] = {"headers": _FORM, "secrets": (key,), "allow_http": allow_http}
        super().__init__(endpoint, _PER_SECOND, clock, connections=1, **more)

    def body(self, items: Sequence[_Item], **fields: object) -> bytes:
        """The form with identifications and other fields."""
        text = quote_plus(json.dumps(items, separators=(",", ":")), safe='{}[]":,$')
        more = "".join(f"&{name}={quote_plus(json.dumps(value))}" for name, value in fields.items())
        return self._prefix + text.encode() + more.encode()

    async def post(self, body: bytes, headers: _Headers | None = None) -> Verdict:
        """Send a request once. Raises BudgetSpentError, and DestinationError where nothing can be sent."""
        if self.requests + 1 > MOST_REQUESTS or self.bytes + len(body) > MOST_BYTES:
            raise BudgetSpentError(f"the probe ends at {MOST_REQUESTS} requests or {size(MOST_BYTES)}")
        self.requests += 1
        self.bytes += len(body)
        answer = await self.request("POST", IDENTIFY_PATH, (body,), headers)
        verdict = classify_response(answer) if isinstance(answer, Response) else answer
        if isinstance(verdict, Stop) and not isinstance(verdict, KeyRefused):
            raise DestinationError(verdict.message, hint=verdict.hint)
        return verdict

    async def send(self, body: bytes, headers: _Headers | None = None) -> Verdict:
        """Send a request at the rate, and again where it is to be tried later; the last verdict."""
        verdict: Verdict
        for tries in range(_TRIES):
            await self.clock.sleep(self.rate.book(1))
            verdict = await self.post(body, headers)
            if not isinstance(verdict, SlowDown | TryAgain):
                break
            usual = THROTTLE_SECONDS if isinstance(verdict, SlowDown) else 2.0**tries
            await self.clock.sleep(usual if verdict.retry_after is None else verdict.retry_after)
        if isinstance(verdict, KeyRefused):
            raise DestinationError(f"the API key was refused: {verdict.message}", hint=verdict.hint)
        return verdict

    async def takes(self, body: bytes, headers: _Headers | None = None, *, refusal: str = "") -> bool:
        """Whether a request is taken. Raises DestinationError if no request gets an answer.

        The text of a refusal is kept in `answers` under the name `refusal`.
        """
        verdict = await self.send(body, headers)
        if isinstance(verdict, SlowDown | TryAgain):  # is it this request, or all?
            control = await self.send(self.body([user_item("control")]))
            if not isinstance(control, Accepted):
                said = f"the probe stops: {self.endpoint} is not available: {describe(verdict)}"
                raise DestinationError(said, hint=LATER_HINT)
        if not isinstance(verdict, Accepted) and refusal:
            status, message = getattr(verdict, "status", ""), getattr(verdict, "message", "")
            self.answers[refusal] = f"{status} {message}".strip()
        return isinstance(verdict, Accepted)

    async def takes_each(self, *items: _Item, refusal: str = "") -> bool:
        """Whether all items are taken, a request each; see `takes`."""
        return all([await self.takes(self.body([item]), refusal=refusal) for item in items])


async def largest(
    takes: Callable[[int], Awaitable[bool]], likely: Sequence[int], most: int, step: int
) -> tuple[int, int | None]:
    """The largest size that is taken, a multiple of `step` or a likely one; and one that isn't, if tried.

    It ends early where the budget is spent. What is taken at one size is taken at all smaller ones.
    """
    low, high = 0, most + step
    try:
        while high - low > step:
            between = [one for one in likely if low < one < high and one <= most]
            middle = between[0] if between else max(low + step, (low + high) // 2 // step * step)
            if middle >= high:
                break
            if await takes(middle):
                low = middle
            else:
                high = middle
    except BudgetSpentError:
        pass
    return low, high if high <= most else None
