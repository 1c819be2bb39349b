"""`probe`: whether the API key works, and in which region; and what the Identify API takes and does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..amplitude.limits import REGIONS
from ..amplitude.responses import Accepted, KeyRefused
from ..amplitude.user_profile import UserProfile, profile_endpoint
from ..checkpoint import StateDir
from ..errors import DestinationError
from ..job import Job
from ..pipeline.run import run_async
from ..pipeline.settings import Capabilities, Finding, Settings, at_endpoint
from ..sender import Clock
from ..text import span
from .probe_questions import (
    Later,
    ask_at_once,
    ask_for_later,
    find_bytes,
    find_identifications,
    find_user_window,
)
from .probe_session import BudgetSpentError, ProbeSession, user_item
from .profile_reader import ProfileReader

_UNREADABLE: Final = "it can only be read back, which needs the secret key (AMPLITUDE_SECRET_KEY)"
_NOT_IN_EU: Final = "it can only be read back, and there is no User Profile API in the EU"
_NOT_ASKED: Final = "the probe had sent as much as it may before this question"
_AT_ONCE: Final = ("bytes", "identifications", "gzip", "min_id_length", "user_window")
_LATER: Final = ("insert_id", "time", "clear_all", "bad_item", "clearing_field", "refusals")
_LATER_HINT: Final = "run the same command again later"


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """Where an API key works: `endpoint`, and its `region` if it is one of Amplitude's."""

    endpoint: str
    region: str | None


def probe_key(
    job: Job,
    key: str,
    *,
    endpoint: str | None = None,
    allow_http: bool = False,
    regions: Mapping[str, str] = REGIONS,
) -> KeyCheck:
    """Try the API key where the job sends to, and then in the other region, with one request each.

    The request changes nothing. Raises DestinationError where the key doesn't work, naming the region in
    which it does, or where there is no answer.
    """
    wanted = at_endpoint(job, Settings(endpoint=endpoint)).destination.endpoint
    by_url = {url: region for region, url in regions.items()}

    async def works_at(url: str) -> bool:
        async with ProbeSession(url, key, clock=Clock(), allow_http=allow_http) as session:
            verdict = await session.post(session.body([user_item("key")]))
        if not isinstance(verdict, Accepted | KeyRefused):
            message = getattr(verdict, "message", "")
            raise DestinationError(
                f"{url} didn't say whether it takes the API key: {message}", hint=_LATER_HINT
            )
        return isinstance(verdict, Accepted)

    async def try_all() -> list[str]:
        others = [url for url in regions.values() if url != wanted] if wanted in by_url else []
        if await works_at(wanted):
            return [wanted]
        return [url for url in others if await works_at(url)]

    (found, *_) = [*run_async(try_all), None]
    if found == wanted:
        return KeyCheck(wanted, by_url.get(wanted))
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
    reader = None
    if reading is not None and secret_key is not None:
        reader = ProfileReader(reading, secret_key, clock=clock, allow_http=allow_http)

    async def ask() -> dict[str, Finding]:
        found: dict[str, Finding] = {}
        later: list[Later] = []
        async with session, reader or nullcontext():
            try:
                found["bytes"] = await find_bytes(session)
                most = found["bytes"].value
                found["identifications"] = await find_identifications(session, most)
                found |= await ask_at_once(session)
                later = await ask_for_later(session)
                written = clock.now()
                found["user_window"] = await find_user_window(session)
            except BudgetSpentError:
                pass
            if reader is not None and later:
                left = settle - (clock.now() - written)
                if left > 0:
                    notify(f"waiting {span(left)} before reading back")
                    await clock.sleep(left)
            for question in later:
                found[question.question] = await _concluded(question, reader, is_eu=reading is None)
        found["refusals"] = Finding(session.answers, f"{len(session.answers)} kinds of refusals were met")
        return found

    answers = run_async(ask)
    findings = {name: answers.get(name, Finding(None, _NOT_ASKED)) for name in (*_AT_ONCE, *_LATER)}
    known = Capabilities(url, datetime.now(UTC).isoformat(timespec="seconds"), findings)
    for text in before.differences(known) if before else ():
        notify(f"warning: {text}")
    known.save(folder)
    return known


async def _concluded(question: Later, reader: ProfileReader | None, *, is_eu: bool) -> Finding:
    if not question.users:
        return question.conclude(None)
    if reader is None:
        return Finding(None, _NOT_IN_EU if is_eu else _UNREADABLE)
    profiles = [await reader.read({"user_id": user}) for user in question.users]
    if not all(isinstance(profile, UserProfile) for profile in profiles):
        return Finding(None, "the user of the probe was not there when it was read back")
    return question.conclude(*profiles)
