"""What an answer of Amplitude means: the verdict. No I/O.

The status decides; a 200 is an acceptance only if its body confirms it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias

from ..text import one_line
from .answers import (
    Named,
    Payload,
    blotted,
    event_faults,
    has_code_200,
    ingested_of,
    is_success,
    json_object,
    named_as,
    quote_answer,
    redirect_target,
    refuses_key,
    seconds_to_wait,
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request was taken. `ingested` is how many events the server counted; None: it doesn't count.

    `lacks_count`: it should count, but its answer has no number of events; `ingested` is 0 then.
    """

    ingested: int | None = None
    lacks_count: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The content is at fault: halve until the bad rows stand alone; of a 413, until it is small enough.

    `message` is the server's text.
    """

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class RefusedSome(Refused):
    """Nothing was taken, because some events are at fault: `faults` has the fault of each, by index."""

    faults: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Nothing of the request was taken; send the same bytes later.

    `retry_after` is in seconds, `asked` is the text of the header.
    """

    retry_after: float | None
    message: str
    asked: str = ""
    status: int = 429


@dataclass(frozen=True, slots=True)
class SlowDownSome(SlowDown):
    """Nothing was taken, because some users are too fast: those `over_quota` are out for the day.

    The other `throttled` ones are to be sent later, and those that are not named at once.
    """

    throttled: Named = Named()
    over_quota: Named = Named()


@dataclass(frozen=True, slots=True)
class TryAgain:
    """No usable answer; send the same bytes later. `in_doubt`: the request may have been applied.

    `unsent`: not a byte of it left this machine. `status` None: there was no answer at all.
    """

    in_doubt: bool
    message: str
    retry_after: float | None = None
    asked: str = ""
    status: int | None = None
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """No request of this run can succeed. `hint` is the remedy."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class KeyRefused(Stop):
    """The API key is invalid."""

    status: int = 401


Refusal: TypeAlias = Refused | KeyRefused
Failure: TypeAlias = SlowDown | TryAgain
Verdict: TypeAlias = Accepted | Refused | SlowDown | TryAgain | Stop

_CHECK_KEY: Final = "check the API key, and that the project lives in the region of `destination.region`"
_CHECK_URL: Final = "check the base URL (`destination.region` or --endpoint)"
CHECK_WAY: Final = f"{_CHECK_URL}, and what stands between here and it, such as a proxy or a portal"
_IN_ANSWERS: Final = 60  # characters of a Retry-After that are shown


@dataclass(frozen=True, slots=True)
class Response:
    """An answer over HTTP. `headers` is looked up by names such as `Retry-After` and should ignore case.

    `secrets`, such as the API key, are blotted out of the verdict's message: servers echo them. `now`
    (seconds since 1970) is what a Retry-After in the form of a date is read against.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: tuple[str, ...] = field(default=(), repr=False)
    now: float | None = None

    @property
    def is_2xx(self) -> bool:
        """Whether its status is one of success."""
        return 200 <= self.status < 300

    @property
    def wait(self) -> float | None:
        """The seconds that it asks to wait."""
        return seconds_to_wait(self.headers, self.now)

    @property
    def asked(self) -> str:
        """The text of its Retry-After header."""
        return blotted(one_line(self.headers.get("Retry-After") or ""), *self.secrets)[:_IN_ANSWERS]


def classify_response(response: Response) -> Verdict:
    """The verdict of an answer of the Identify API; its message has at most 500 characters."""
    if response.status == 200 and is_success(response.body, json_object(response.body)):
        return Accepted()
    return _failure(response, quote_answer(response.body, *response.secrets))


def classify_batch_response(response: Response) -> Verdict:
    """The verdict of an answer of the Batch API; like `classify_response`, but its JSON may name events.

    A 200 is an acceptance only as the JSON object, with the count of ingested events. A body that isn't the
    JSON it should be names nobody.
    """
    status, secrets = response.status, response.secrets
    payload: Payload = json_object(response.body) if status in {200, 400, 429} else {}
    if status == 200 and has_code_200(payload):
        count = ingested_of(payload)
        return Accepted(count or 0, lacks_count=count is None)
    # The server's own sentence; the rest of its answer may list the ids of strangers.
    error = payload.get("error")
    message = quote_answer(error.encode() if isinstance(error, str) and error else response.body, *secrets)
    if status == 400 and (faults := event_faults(payload)):
        quoted = {at: quote_answer(", ".join(found).encode(), *secrets) for at, found in faults.items()}
        return RefusedSome(status, message, quoted)
    throttled, over_quota = named_as("throttled", payload), named_as("exceeded_daily_quota", payload)
    if status == 429 and (throttled or over_quota):
        wait, asked = response.wait, response.asked
        return SlowDownSome(wait, message, asked, throttled=throttled, over_quota=over_quota)
    return _failure(response, message)


def _failure(response: Response, message: str) -> Verdict:
    """The verdict of an answer that isn't an acceptance; the status decides."""
    status = response.status
    answer = f"{status} {message}".rstrip()
    if status == 401 or (status == 400 and refuses_key(response.body)):
        return KeyRefused(message, _CHECK_KEY, status)
    if status == 429:
        return SlowDown(response.wait, message, response.asked)
    if status in {400, 403, 413}:
        return Refused(status, message)
    if status == 200:  # from a proxy, portal or relay on the way, not from Amplitude
        return TryAgain(True, f"no usable answer: {status} with {message or 'an empty body'}", status=status)
    if status in {408, 425} or status >= 500:
        # 503 is documented as not accepted; of 500, 502 and 504 nobody knows.
        in_doubt = status not in {408, 425, 503}
        return TryAgain(in_doubt, answer, response.wait, response.asked, status)
    # Amplitude itself never answers so; the key is not to blame.
    if 300 <= status < 400:
        target = redirect_target(response.headers.get("Location") or "", *response.secrets)
        to = f" to {target}" if target else ""
        return Stop(f"unexpected answer {status}, a redirect{to}", f"redirects aren't followed: {CHECK_WAY}")
    if response.is_2xx:
        remedy = "a relay of your own that answers so needs `trust_status: true` under `destination`"
        return Stop(f"unexpected answer {answer}, which doesn't say that anything was accepted", remedy)
    return Stop(f"unexpected answer {answer}", CHECK_WAY)


def describe(verdict: Failure) -> str:
    """The server's message, with its status and for how long it asked to wait."""
    message = verdict.message if isinstance(verdict, TryAgain) else f"429 {verdict.message}".rstrip()
    return f"{message} (Retry-After: {verdict.asked})" if verdict.asked else message


# --- users who are read back -----------------------------------------------------------------------------

_UNSEEN: Final = "not seen before"  # "User id and device id not seen before"
_TOO_MANY: Final = "requests per minute exceeds"


@dataclass(frozen=True, slots=True)
class UserProfile:
    """A user or device as it is read back.

    `user_id` None: the device has no user. `groups` None: the answer doesn't have them. `fields` are all
    other texts of the answer, by name.
    """

    user_id: str | None
    device_ids: tuple[str, ...]
    properties: Mapping[str, Any]
    groups: Mapping[str, Any] | None
    fields: Mapping[str, str]

    @classmethod
    def of(cls, data: Payload) -> Self:
        """The profile in the `userData` of an answer."""
        fields = {str(name): value for name, value in data.items() if isinstance(value, str)}
        properties, groups, devices = (data.get(key) for key in ("amp_props", "groups", "device_ids"))
        named = devices if isinstance(devices, list) else [data.get("device_id")]
        return cls(
            user_id=fields.get("user_id") or None,
            device_ids=tuple(one for one in named if isinstance(one, str)),
            properties=properties if isinstance(properties, dict) else {},
            groups=groups if isinstance(groups, dict) else None,
            fields=fields,
        )


@dataclass(frozen=True, slots=True)
class Unseen:
    """There is no such user. Unless `stated`, it is a bare 404, which a wrong base URL has, too."""

    stated: bool


ProfileVerdict: TypeAlias = UserProfile | Unseen | SlowDown | TryAgain | Stop


def classify_profile(response: Response) -> ProfileVerdict:
    """The verdict of an answer of the User Profile API; its message has at most 500 characters."""
    payload = json_object(response.body)
    error, message = payload.get("error"), quote_answer(response.body, *response.secrets)
    if response.status == 401:
        remedy = "check the secret key: it is another one than the API key, and of the same project"
        return KeyRefused(message, remedy)
    if isinstance(error, str) and _TOO_MANY in error:
        return SlowDown(response.wait, message, response.asked)
    if response.status in {200, 400, 404} and isinstance(error, str) and _UNSEEN in error:
        return Unseen(stated=True)
    if response.status == 404:
        return Unseen(stated=isinstance(error, str))
    if response.status != 200:
        verdict = classify_response(response)
        if isinstance(verdict, SlowDown | TryAgain | Stop) and not isinstance(verdict, KeyRefused):
            return verdict
        return Stop(f"unexpected answer {response.status} {message}".rstrip(), _CHECK_URL)
    if isinstance(data := payload.get("userData"), dict):
        return UserProfile.of(data)
    return TryAgain(False, f"no usable answer: 200 with {message or 'an empty body'}", status=200)
