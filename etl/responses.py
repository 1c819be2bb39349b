"""What an answer of Amplitude means: the verdict. No I/O.

The status decides; a 200 is an acceptance only if its body says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from etl.answer_text import (
    blotted,
    has_code_200,
    one_line,
    place_of,
    quote_answer,
    refuses_key,
    says_success,
    seconds_to_wait,
)
from etl.batch_answer import Named, Told, faults_of, ingested_of, json_object, over_quota_by, throttled_by


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request was taken. `ingested`: how many events the server counted; None where nobody counts."""

    ingested: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The content is at fault: halve until the bad rows stand alone. `words` are the server's."""

    status: int
    words: str


@dataclass(frozen=True, slots=True)
class RefusedSome:
    """Nothing was taken, for the content of some: `faults` says by index what is wrong with each."""

    status: int
    words: str
    faults: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class TooBig:
    """The request is too big: halve."""

    words: str
    status: int = 413


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Nothing of the request was taken; send the same bytes later.

    `retry_after` is in seconds, and `asked` the header as it stands there.
    """

    retry_after: float | None
    words: str
    asked: str = ""
    status: int = 429


@dataclass(frozen=True, slots=True)
class SlowDownSome:
    """Nothing was taken, for the pace of some: those `over_quota` are out for the day.

    The other `throttled` ones are to be sent later, and whoever isn't named at once.
    """

    retry_after: float | None
    words: str
    throttled: Named
    over_quota: Named
    asked: str = ""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """No usable answer; send the same bytes later. `in_doubt`: the request may have been applied.

    `unsent`: not a byte of it left this machine. `status` None: there was no answer at all. `applied` says
    the same as `in_doubt` of a transport over which a resend counts once, so that nothing is in doubt.
    """

    in_doubt: bool
    words: str
    retry_after: float | None = None
    asked: str = ""
    status: int | None = None
    unsent: bool = False
    applied: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Stop:
    """No request of this run can succeed. `hint` is the remedy."""

    words: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class KeyRefused(Stop):
    """The server says that the API key is invalid."""

    status: int = 401


Verdict: TypeAlias = Accepted | Refused | RefusedSome | TooBig | SlowDown | SlowDownSome | TryAgain | Stop

_CHECK_KEY: Final = "check the API key, and that the project lives in the region of `destination.region`"
_CHECK_URL: Final = (
    "check the base URL (`destination.region` or --endpoint), and what stands between here and it, such as "
    "a proxy or a portal"
)


def judge(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    key: str,
    trust_status: bool = False,
    now: float | None = None,
    secrets: tuple[str, ...] = (),
) -> Verdict:
    """Say what an answer of the Identify API means. A 200 is an acceptance only if it says so.

    `headers` is looked up by names such as `Retry-After` and so should ignore case. With `trust_status` any
    2xx is an acceptance. `now` (seconds since 1970) is what a Retry-After in the form of a date is read
    against. The words of the verdict are at most 500 characters, with `key` and `secrets` blotted out
    (servers echo them).
    """
    if trust_status and 200 <= status < 300:
        return Accepted()
    if status == 200 and (says_success(body) or has_code_200(json_object(body))):
        return Accepted()
    return _failure(status, headers, body, quote_answer(body, key, *secrets), now, (key, *secrets))


def judge_batch(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    key: str,
    trust_status: bool = False,
    now: float | None = None,
    secrets: tuple[str, ...] = (),
) -> Verdict:
    """Say what an answer of the Batch API means; like `judge`, but that its JSON may name who is at fault.

    A 200 is an acceptance only as the JSON object, with the count of what was taken in. A body that isn't
    the JSON it should be names nobody. What may have been applied is in no doubt: its insert_ids make a
    resend count once.
    """
    if trust_status and 200 <= status < 300:
        return Accepted()
    told = json_object(body) if status in {200, 400, 429} else {}
    if status == 200 and has_code_200(told):
        return Accepted(ingested_of(told))
    hidden = (key, *secrets)
    words = _error_words(told, body, hidden)
    if status == 400 and (faults := faults_of(told)):
        quoted = {at: quote_answer(", ".join(says).encode(), *hidden) for at, says in faults.items()}
        return RefusedSome(status, words, quoted)
    throttled, over_quota = throttled_by(told), over_quota_by(told)
    if status == 429 and (throttled or over_quota):
        asked = seconds_to_wait(headers, now)
        return SlowDownSome(asked, words, throttled, over_quota, _asked(headers, hidden))
    verdict = _failure(status, headers, body, words, now, hidden)
    if isinstance(verdict, TryAgain):
        return replace(verdict, in_doubt=False, applied=verdict.in_doubt)
    return verdict


# What became of a request: of one that is lost nobody knows whether it was applied.
Fate: TypeAlias = Literal["applied", "lost", "refused"]


def fate_of(verdict: Verdict) -> Fate:
    """Say what became of a request that was answered so."""
    if isinstance(verdict, TryAgain):
        return "lost" if verdict.in_doubt or verdict.applied else "refused"
    nothing = Refused | RefusedSome | TooBig | SlowDown | SlowDownSome | Stop
    return "refused" if isinstance(verdict, nothing) else "applied"


def said(verdict: SlowDown | SlowDownSome | TryAgain) -> str:
    """What the server said, with its status and for how long it asked to wait."""
    words = verdict.words if isinstance(verdict, TryAgain) else f"429 {verdict.words}".rstrip()
    return f"{words} (Retry-After: {verdict.asked})" if verdict.asked else words


def _failure(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    words: str,
    now: float | None,
    secrets: tuple[str, ...],
) -> Verdict:
    """What an answer means that isn't an acceptance; the status decides."""
    told = f"{status} {words}".rstrip()
    if status == 401 or (status == 400 and refuses_key(body)):
        return KeyRefused(words, _CHECK_KEY, status)
    if status == 413:
        return TooBig(words)
    if status == 429:
        return SlowDown(seconds_to_wait(headers, now), words, _asked(headers, secrets))
    if status in {400, 403}:
        return Refused(status, words)
    if status == 200:
        # Some proxy, portal or relay on the way speaks, not Amplitude.
        return TryAgain(True, f"no usable answer: {status} {words or 'with an empty body'}", status=status)
    if status in {408, 425} or status >= 500:
        # 503 is documented as not accepted; of 500, 502 and 504 nobody knows.
        in_doubt = status not in {408, 425, 503}
        wait = seconds_to_wait(headers, now)
        return TryAgain(in_doubt, told, wait, _asked(headers, secrets), status)
    return _never_given(status, headers, told, secrets)


def _never_given(status: int, headers: Mapping[str, str], told: str, secrets: tuple[str, ...]) -> Stop:
    """What to make of an answer that Amplitude doesn't give; the key is not to blame."""
    if 300 <= status < 400:
        place = place_of(headers.get("Location") or "", *secrets)
        return Stop(
            f"unexpected answer {status}, a redirect{f' to {place}' if place else ''}",
            f"redirects aren't followed: {_CHECK_URL}",
        )
    if 200 <= status < 300:
        remedy = "a relay of your own that answers so needs `trust_status: true` under `destination`"
        return Stop(f"unexpected answer {told}, which doesn't say that anything was accepted", remedy)
    return Stop(f"unexpected answer {told}", _CHECK_URL)


def _asked(headers: Mapping[str, str], secrets: tuple[str, ...]) -> str:
    return blotted(one_line(headers.get("Retry-After") or ""), *secrets)[:60]


def _error_words(told: Told, body: bytes, secrets: tuple[str, ...]) -> str:
    """The server's own sentence; the rest of its answer may list the ids of strangers."""
    error = told.get("error")
    return quote_answer(error.encode() if isinstance(error, str) and error else body, *secrets)
