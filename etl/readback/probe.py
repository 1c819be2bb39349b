"""`probe`: whether and in which region the API key works; and what the Identify API takes and does."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..amplitude.requests import REGIONS, profile_endpoint
from ..amplitude.responses import Accepted, KeyRefused, SlowDown, UserProfile
from ..checkpoint import StateDir
from ..checkpoint.run_records import Capabilities, Finding
from ..errors import DestinationError
from ..job.spec import Job
from ..pipeline.run import run_async
from ..pipeline.settings import Settings, at_endpoint
from ..sender import Clock
from ..sender.transports import gzip
from ..text import span
from .sessions import (
    LATER_HINT,
    PREFIX,
    PROPERTY,
    BudgetSpentError,
    ProbeSession,
    ProfileReader,
    largest,
    user_item,
)

_UNREADABLE: Final = "it can only be read back, which needs the secret key (AMPLITUDE_SECRET_KEY)"
_NOT_IN_EU: Final = "it can only be read back, and there is no User Profile API in the EU"
_NOT_ASKED: Final = "the probe had sent as much as it may before this question"
_AT_ONCE: Final = ("bytes", "identifications", "gzip", "min_id_length", "user_window")
_LATER: Final = ("insert_id", "time", "clear_all", "bad_item", "clearing_field", "refusals")


def probe_key(
    job: Job,
    key: str,
    *,
    endpoint: str | None = None,
    allow_http: bool = False,
    regions: Mapping[str, str] = REGIONS,
) -> tuple[str, str | None]:
    """Try the API key where the job sends to, and then in the other region, with one request each.

    Returns the endpoint where it works, and its region if it is one of Amplitude's. The request changes
    nothing. Raises DestinationError if the key doesn't work, naming the region in which it does, or if there
    is no answer.
    """
    wanted = at_endpoint(job, Settings(endpoint=endpoint)).destination.endpoint
    by_url = {url: region for region, url in regions.items()}
    places: Iterable[str] = dict.fromkeys([wanted, *(by_url if wanted in by_url else ())])

    async def place_of_key() -> str | None:
        for url in places:
            async with ProbeSession(url, key, clock=Clock(), allow_http=allow_http) as session:
                verdict = await session.post(session.body([user_item("key")]))
            if isinstance(verdict, Accepted):
                return url
            if not isinstance(verdict, KeyRefused):
                said = f"{url} didn't say whether it takes the API key: {getattr(verdict, 'message', '')}"
                raise DestinationError(said, hint=LATER_HINT)
        return None

    found = run_async(place_of_key)
    if found == wanted:
        return wanted, by_url.get(wanted)
    if found is not None:
        raise DestinationError(
            f"the API key is of a project in the region {by_url[found]}, and the job sends to {wanted}",
            hint=f"set `destination: {{region: {by_url[found]}}}` in the job file",
        )
    tried = "both regions" if wanted in by_url else wanted
    raise DestinationError(f"the API key was refused by {tried}", hint="check the API key of the project")


def probe_limits(
    job: Job,
    key: str,
    secret_key: str | None = None,
    *,
    endpoint: str | None = None,
    state_dir: Path | None = None,
    settle: float = 60.0,
    allow_http: bool = False,
    clock: Clock | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> Capabilities:
    """Find out what the Identify API takes and does, on a test project, and keep it in the state folder.

    Sends at most 200 requests and 20 MB, about users `propsync-probe-*` only. Without a secret key some
    answers stay unknown. `notify` gets sentences about what it does and what differs from an earlier probe.
    Raises DestinationError where the key is refused or there is no answer; then nothing is kept.
    """
    job = at_endpoint(job, Settings(endpoint=endpoint))
    url, clock, folder = job.destination.endpoint, clock or Clock(), StateDir(state_dir or job.state_dir)
    folder.prepare()
    before = Capabilities.load(folder, url)
    reading = profile_endpoint(url)
    session = ProbeSession(url, key, clock=clock, allow_http=allow_http)
    unread = _NOT_IN_EU if reading is None else _UNREADABLE
    reader = None
    if reading is not None and secret_key is not None:
        reader = ProfileReader(reading, secret_key, clock=clock, allow_http=allow_http)

    async def ask() -> dict[str, Finding]:
        async with session, reader or nullcontext():
            found, later, written = await _ask_all(session)
            left = written + settle - clock.now()
            if reader is not None and later and left > 0:
                notify(f"waiting {span(left)} before reading back")
                await clock.sleep(left)
            for one in later:
                found[one.question] = await one.answer(reader, unread)
        found["refusals"] = Finding(session.answers, f"{len(session.answers)} kinds of refusals were met")
        return found

    answers = run_async(ask)
    findings = {name: answers.get(name, Finding(None, _NOT_ASKED)) for name in (*_AT_ONCE, *_LATER)}
    known = Capabilities(url, datetime.now(UTC).isoformat(timespec="seconds"), findings)
    for text in before.differences(known) if before else ():
        notify(f"warning: {text}")
    known.save(folder)
    return known


async def _ask_all(session: ProbeSession) -> tuple[dict[str, Finding], list[PendingQuestion], float]:
    """Ask as much as the budget allows; the answers, the questions to be read back, and their time."""
    found: dict[str, Finding] = {}
    later: list[PendingQuestion] = []
    written = 0.0
    with suppress(BudgetSpentError):
        found["bytes"] = await find_bytes(session)
        found["identifications"] = await find_identifications(session, found["bytes"].value)
        found |= await ask_at_once(session)
        later, written = await ask_for_later(session), session.clock.now()
        found["user_window"] = await find_user_window(session)
    return found, later, written


# --- the questions, which Amplitude's pages leave open ---------------------------------------------------
#
# If only a profile shows the answer, a question only writes; all profiles are read back together, once
# Amplitude has had the time to show them.

_MOST_ITEMS: Final = 4096
_MOST_SIZE: Final = 2_000_000
_LIKELY_ITEMS: Final = (1000, 1001, 1024, 1025, 2000, 2001)
_LIKELY_SIZES: Final = (1_000_000, 1_001_000, 1_048_576, 1_049_000, _MOST_SIZE)
_SIZES_TOGETHER: Final = 15_000_000  # bytes; the rest of what may be sent is for the other questions
_STEP: Final = 1000  # bytes
_BURST: Final = 60  # updates of one user
_MOST_WAITS: Final = 60
_FIELD: Final = "app_version"
_OTHER: Final = f"{PROPERTY}_2"


@dataclass(frozen=True, slots=True)
class PendingQuestion:
    """A question whose answer `conclude` finds in the profiles of `users`, read back later.

    There are no users if the request was refused.
    """

    question: str
    users: tuple[str, ...]
    conclude: Callable[..., Finding]

    async def answer(self, reader: ProfileReader | None, unread: str) -> Finding:
        """Read the profiles back and answer; `unread` is the evidence if there is no reader."""
        if not self.users:
            return Finding("refuses", "it was refused")
        if reader is None:
            return Finding(None, unread)
        profiles = [await reader.read({"user_id": user}) for user in self.users]
        if not all(isinstance(profile, UserProfile) for profile in profiles):
            return Finding(None, "the user of the probe was not there when it was read back")
        return self.conclude(*profiles)


async def find_bytes(session: ProbeSession) -> Finding:
    """The most bytes of a request, of one user with a long text, which is cut when it is stored."""
    frame = len(session.body([user_item("bytes", {"$set": {PROPERTY: ""}})]))

    async def takes(size: int) -> bool:
        if session.bytes + size > _SIZES_TOGETHER:
            raise BudgetSpentError("the other questions need the rest")
        text = "x" * (size - frame)
        item = user_item("bytes", {"$set": {PROPERTY: text}})
        return await session.takes(session.body([item]), refusal="too many bytes")

    return _as_limit(*await largest(takes, _LIKELY_SIZES, _MOST_SIZE, _STEP), "bytes")


async def find_identifications(session: ProbeSession, most_bytes: int | None) -> Finding:
    """The most identifications of a request, as far as they fit into the bytes."""
    items = [user_item(f"{number:04}") for number in range(_MOST_ITEMS)]
    each = len(session.body(items[:2])) - len(session.body(items[:1]))
    most = min(_MOST_ITEMS, (most_bytes or _MOST_SIZE) // each - 10)

    async def takes(count: int) -> bool:
        return await session.takes(session.body(items[:count]), refusal="too many identifications")

    return _as_limit(*await largest(takes, _LIKELY_ITEMS, most, 1), "identifications")


def _as_limit(taken: int, refused: int | None, noun: str) -> Finding:
    more = "more was not tried" if refused is None else f"{refused:,} were refused"
    return Finding(taken or None, f"{taken:,} {noun} were taken, {more}")


async def ask_at_once(session: ProbeSession) -> dict[str, Finding]:
    """Ask the questions that the status of an answer decides."""
    body = session.body([user_item("gzip")])
    zipped = await session.takes(gzip((body,)), {"Content-Encoding": "gzip"}, refusal="gzip")
    longest = len(PREFIX) + 100
    short = session.body([user_item("length")], options={"min_id_length": longest})
    obeyed = not await session.takes(short, refusal="min_id_length")
    await session.takes(session.body([])[: -len("&identification=[]")], refusal="no identification")
    evidence = f"with options.min_id_length {longest}, a shorter id was {'refused' if obeyed else 'taken'}"
    return {
        "gzip": Finding(zipped, f"a gzipped body was {'taken' if zipped else 'refused'}"),
        "min_id_length": Finding(obeyed, evidence),
    }


async def ask_for_later(session: ProbeSession) -> list[PendingQuestion]:
    """Write the updates of the questions that profiles answer."""
    token, now = secrets.token_hex(8), int(time.time() * 1000)

    def conclude(profile: UserProfile, *, meanings: Mapping[Any, str]) -> Finding:
        value = profile.properties.get(PROPERTY)
        return Finding(meanings.get(value), f"the property was {value!r} afterwards")

    first = user_item("insert", {"$set": {PROPERTY: 0}})
    added = user_item("insert", {"$add": {PROPERTY: 1}}, insert_id=token)
    taken = await session.takes_each(first, added, refusal="insert_id") and await session.takes_each(added)
    by_sum = partial(conclude, meanings={1: "obeys", 2: "ignores"})
    insert_id = PendingQuestion("insert_id", (f"{PREFIX}insert",) * taken, by_sum)

    new = user_item("time", {"$set": {PROPERTY: "new"}}, time=now)
    old = user_item("time", {"$set": {PROPERTY: "old"}}, time=now - 86_400_000)
    taken = await session.takes_each(new, old, refusal="time")
    by_age = partial(conclude, meanings={"new": "obeys", "old": "ignores"})
    in_order = PendingQuestion("time", (f"{PREFIX}time",) * taken, by_age)

    before = user_item("clear", {"$set": {PROPERTY: token}})
    cleared = user_item("clear", {"$clearAll": "-", "$set": {_OTHER: token}})
    taken = await session.takes_each(before) and await session.takes_each(cleared, refusal="$clearAll")

    def conclude_clear(profile: UserProfile) -> Finding:
        stayed = profile.properties.get(PROPERTY) == token
        answer = ("ignores" if stayed else "obeys") if profile.properties.get(_OTHER) == token else None
        return Finding(answer, f"a property from before {'stayed' if stayed else 'was gone'}")

    clear_all = PendingQuestion("clear_all", (f"{PREFIX}clear",) * taken, conclude_clear)
    others = await _ask_for_bad_item(session, token), await _ask_for_clearing(session)
    return [insert_id, in_order, clear_all, *others]


async def _ask_for_bad_item(session: ProbeSession, token: str) -> PendingQuestion:
    """Ask what happens to a request with one bad item."""
    await session.takes_each(user_item("good", {"$set": {PROPERTY: "before"}}))
    good = user_item("good", {"$set": {PROPERTY: token}})
    bad = user_item("bad", {"$add": {PROPERTY: "no number"}})
    taken = await session.takes(session.body([good, bad]), refusal="a bad item")

    def conclude_bad(profile: UserProfile) -> Finding:
        applied = profile.properties.get(PROPERTY) == token
        value = "skipped" if taken else "refused_alone" if applied else "refuses_all"
        how = "the request was " + ("taken" if taken else "refused")
        how += ", and its good item " + ("applied" if applied else "not applied")
        return Finding(value if applied or not taken else None, how)

    return PendingQuestion("bad_item", (f"{PREFIX}good",), conclude_bad)


async def _ask_for_clearing(session: ProbeSession) -> PendingQuestion:
    """Ask what clears a field that isn't a property."""
    names = ("field", "empty", "null")
    await session.takes_each(*(user_item(name, {}, **{_FIELD: "1.0"}) for name in names))
    await session.takes_each(user_item("empty", {}, **{_FIELD: ""}), user_item("null", {}, **{_FIELD: None}))

    def conclude_field(*profiles: UserProfile) -> Finding:
        shown, *cleared = (one.fields.get(_FIELD) for one in profiles)
        if shown != "1.0":
            return Finding(None, f"the profile doesn't show {_FIELD}")
        by = [name for name, value in zip(names[1:], cleared, strict=True) if value is None]
        answer = " and ".join(by) or "nothing"
        return Finding(answer, f"{_FIELD} was {cleared} after an empty text and a null")

    return PendingQuestion("clearing_field", tuple(PREFIX + name for name in names), conclude_field)


async def find_user_window(session: ProbeSession) -> Finding:
    """How many updates of one user are taken, and after how many seconds the next one is."""
    clock, body = session.clock, session.body([user_item("window")])
    began = clock.now()
    for count in range(_BURST):  # noqa: B007 - used below
        verdict = await session.post(body)
        if isinstance(verdict, SlowDown):
            break
        if not isinstance(verdict, Accepted):
            return Finding(None, "an update of the user wasn't answered as others were")
    else:
        within = f"within {clock.now() - began:.1f} s"
        return Finding(None, f"{_BURST} updates of one user {within} were all taken")
    if not isinstance(await session.post(session.body([user_item("control")])), Accepted):
        within = f"within {clock.now() - began:.1f} s"
        return Finding(None, f"after {count} updates {within} all users were throttled")
    taken = f"{count} updates of one user were taken"
    for _ in range(_MOST_WAITS):
        await clock.sleep(max(1.0, verdict.retry_after or 0.0))
        again = await session.post(body)
        if isinstance(again, Accepted):
            seconds = math.floor(clock.now() - began)
            answer = {"updates": count, "seconds": seconds}
            return Finding(answer, f"{taken}, and the next one after {seconds} s")
    return Finding(None, f"{taken}, and no other within {clock.now() - began:.0f} s")
