"""What no page says of the Identify API, and how each question is answered.

Questions whose answer shows in a profile alone only write here; what they wrote is read back together, once
Amplitude has had the time to show it.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ..amplitude.responses import Accepted, SlowDown
from ..amplitude.user_profile import UserProfile
from ..pipeline.settings import Finding
from ..sender.transports import gzip
from .probe_session import PREFIX, PROPERTY, BudgetSpentError, ProbeSession, largest, user_item

MOST_ITEMS: Final = 4096
MOST_SIZE: Final = 2_000_000
_LIKELY_ITEMS: Final = (1000, 1001, 1024, 1025, 2000, 2001)
_LIKELY_SIZES: Final = (1_000_000, 1_001_000, 1_048_576, 1_049_000, MOST_SIZE)
_SIZES_TOGETHER: Final = 15_000_000  # bytes; the rest of what may be sent is for the other questions
_STEP: Final = 1000  # bytes
_BURST: Final = 60  # updates of one user
_MOST_WAITS: Final = 60
_FIELD: Final = "app_version"
_OTHER: Final = f"{PROPERTY}_2"


@dataclass(frozen=True, slots=True)
class Later:
    """A question that was asked of a user; `conclude` reads the answer off what `users` then are."""

    question: str
    users: tuple[str, ...]
    conclude: Callable[..., Finding]


async def find_bytes(session: ProbeSession) -> Finding:
    """The most bytes of a request, of one user with a long text, which is cut when it is stored."""
    frame = len(session.body([user_item("bytes", {"$set": {PROPERTY: ""}})]))

    async def takes(size: int) -> bool:
        if session.bytes + size > _SIZES_TOGETHER:
            raise BudgetSpentError("the other questions need the rest")
        text = "x" * (size - frame)
        item = user_item("bytes", {"$set": {PROPERTY: text}})
        return await session.takes(session.body([item]), refusal="too many bytes")

    return _as_limit(*await largest(takes, _LIKELY_SIZES, MOST_SIZE, _STEP), "bytes")


async def find_identifications(session: ProbeSession, most_bytes: int | None) -> Finding:
    """The most identifications of a request, as far as they fit into the bytes."""
    each = len(session.body([user_item(0)] * 2)) - len(session.body([user_item(0)]))
    most = min(MOST_ITEMS, (most_bytes or MOST_SIZE) // each - 10)

    async def takes(count: int) -> bool:
        body = session.body([user_item(number) for number in range(count)])
        return await session.takes(body, refusal="too many identifications")

    return _as_limit(*await largest(takes, _LIKELY_ITEMS, most, 1), "identifications")


def _as_limit(taken: int, refused: int | None, noun: str) -> Finding:
    more = "more was not tried" if refused is None else f"{refused:,} were refused"
    return Finding(taken or None, f"{taken:,} {noun} were taken, {more}")


async def ask_at_once(session: ProbeSession) -> dict[str, Finding]:
    """The questions that the status alone answers."""
    body = session.body([user_item("gzip")])
    zipped = await session.takes(gzip((body,)), {"Content-Encoding": "gzip"}, refusal="gzip")
    longest = len(PREFIX) + 100
    short = session.body([user_item("length")], options={"min_id_length": longest})
    obeyed = not await session.takes(short, refusal="min_id_length")
    await session.takes(session.body([])[: -len("&identification=[]")], refusal="no identification")
    return {
        "gzip": Finding(zipped, f"a gzipped body was {'taken' if zipped else 'refused'}"),
        "min_id_length": Finding(
            obeyed,
            f"with options.min_id_length {longest}, a shorter id was {'refused' if obeyed else 'taken'}",
        ),
    }


async def ask_for_later(session: ProbeSession) -> list[Later]:
    """Write what the other questions are read off."""
    asked, token, now = [], secrets.token_hex(8), int(time.time() * 1000)

    async def write(*items: dict[str, Any], refusal: str = "") -> bool:
        return all([await session.takes(session.body([item]), refusal=refusal) for item in items])

    def read_off(question: str, name: str, meanings: dict[Any, Any], taken: bool) -> None:
        def conclude(profile: UserProfile | None) -> Finding:
            if profile is None:
                return Finding("refuses", "it was refused")
            value = profile.properties.get(PROPERTY)
            return Finding(meanings.get(value), f"the property was {value!r} afterwards")

        asked.append(Later(question, (f"{PREFIX}{name}",) * taken, conclude))

    first = user_item("insert", {"$set": {PROPERTY: 0}})
    added = user_item("insert", {"$add": {PROPERTY: 1}}, insert_id=token)
    taken = await write(first, added, refusal="insert_id") and await write(added)
    read_off("insert_id", "insert", {1: "obeys", 2: "ignores"}, taken)

    new = user_item("time", {"$set": {PROPERTY: "new"}}, time=now)
    old = user_item("time", {"$set": {PROPERTY: "old"}}, time=now - 86_400_000)
    read_off("time", "time", {"new": "obeys", "old": "ignores"}, await write(new, old, refusal="time"))

    before = user_item("clear", {"$set": {PROPERTY: token}})
    cleared = user_item("clear", {"$clearAll": "-", "$set": {_OTHER: token}})
    taken = await write(before) and await write(cleared, refusal="$clearAll")

    def conclude_clear(profile: UserProfile | None) -> Finding:
        if profile is None:
            return Finding("refuses", "it was refused")
        kept, shown = profile.properties.get(PROPERTY) == token, profile.properties.get(_OTHER) == token
        value = ("ignores" if kept else "obeys") if shown else None
        return Finding(value, f"a property from before {'stayed' if kept else 'was gone'}")

    asked.append(Later("clear_all", (f"{PREFIX}clear",) * taken, conclude_clear))

    await write(user_item("good", {"$set": {PROPERTY: "before"}}))
    good = user_item("good", {"$set": {PROPERTY: token}})
    bad = user_item("bad", {"$add": {PROPERTY: "no number"}})
    taken = await session.takes(session.body([good, bad]), refusal="a bad item")

    def conclude_bad(profile: UserProfile | None) -> Finding:
        applied = profile is not None and profile.properties.get(PROPERTY) == token
        value = "skipped" if taken else "refused_alone" if applied else "refuses_all"
        how = "the request was " + ("taken" if taken else "refused")
        how += ", and its good item " + ("applied" if applied else "not applied")
        return Finding(value if applied or not taken else None, how)

    asked.append(Later("bad_item", (f"{PREFIX}good",), conclude_bad))

    names = ("field", "empty", "null")
    await write(*(user_item(name, {}, **{_FIELD: "1.0"}) for name in names))
    await write(user_item("empty", {}, **{_FIELD: ""}), user_item("null", {}, **{_FIELD: None}))

    def conclude_field(*profiles: UserProfile) -> Finding:
        shown, *cleared = (one.fields.get(_FIELD) for one in profiles)
        if shown != "1.0":
            return Finding(None, f"the profile doesn't show {_FIELD}")
        by = [name for name, value in zip(names[1:], cleared, strict=True) if value is None]
        return Finding(
            " and ".join(by) or "nothing", f"{_FIELD} was {cleared} after an empty text and a null"
        )

    asked.append(Later("clearing_field", tuple(PREFIX + name for name in names), conclude_field))
    return asked


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
        spent = clock.now() - began
        return Finding(None, f"{_BURST} updates of one user within {spent:.1f} s were all taken")
    if not isinstance(await session.post(session.body([user_item("control")])), Accepted):
        return Finding(
            None, f"after {count} updates within {clock.now() - began:.1f} s all users were throttled"
        )
    for _ in range(_MOST_WAITS):
        await clock.sleep(max(1.0, verdict.retry_after or 0.0))
        again = await session.post(body)
        if isinstance(again, Accepted):
            seconds = math.floor(clock.now() - began)
            evidence = f"{count} updates of one user were taken, and the next one after {seconds} s"
            return Finding({"updates": count, "seconds": seconds}, evidence)
    return Finding(
        None, f"{count} updates of one user were taken, and no other within {clock.now() - began:.0f} s"
    )
