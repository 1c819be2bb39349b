"""`verify`: reads random users of an export back, and compares them with what its rows leave."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..amplitude.requests import READS_PER_MINUTE, profile_endpoint
from ..amplitude.responses import Unseen
from ..checkpoint import Checkpoint, StateDir
from ..errors import DestinationError, EtlError, SourceError, UsageError
from ..job.spec import Job
from ..pipeline.job_source import JobSource
from ..pipeline.run import run_async
from ..pipeline.settings import Settings, at_endpoint
from ..reader import Source
from ..sender import Backoff, Clock
from ..text import span
from .sessions import CONNECTIONS, ProfileReader
from .user_sample import CONFIDENCE, ProfileComparison, UserSample, ValueDifference, right_at_least


@dataclass(slots=True, kw_only=True)
class Verified:
    """What reading users back has shown.

    Of the `sample`, all properties that could be compared are right of `right` users, and some aren't of
    `wrong` ones; of the rest nothing could be compared. `properties` counts those that are right,
    `not_compared` the others by reason. At this `confidence` at least the share `right_at_least` of all users
    of the export is right. `complete`: the sample is all users.
    """

    job: str
    endpoint: str
    seed: int
    rows: int = 0
    sample: int = 0
    right: int = 0
    wrong: int = 0
    properties: int = 0
    differences: list[ValueDifference] = field(default_factory=list)
    not_compared: dict[str, int] = field(default_factory=dict)
    confidence: float = CONFIDENCE
    right_at_least: float = 0.0
    complete: bool = False

    def take(self, read: Sequence[ProfileComparison]) -> None:
        """Count what was found of the users of the sample."""
        for user in read:
            self.properties += user.right
            self.differences += user.differences
            self.right += bool(user.right and not user.differences)
            self.wrong += bool(user.differences)
        self.differences.sort(key=lambda one: one.user)
        reasons = sum((user.not_compared for user in read), Counter[str]())
        self.not_compared = dict(reasons.most_common())
        self.right_at_least = right_at_least(self.right, self.wrong)


def verify_job(
    job: Job,
    source: Source,
    secret_key: str,
    *,
    sample: int = 400,
    seed: int | None = None,
    rate: float = READS_PER_MINUTE,
    settle: float = 60.0,
    endpoint: str | None = None,
    state_dir: Path | None = None,
    allow_http: bool = False,
    clock: Clock | None = None,
    waits: Backoff = Backoff(),  # noqa: B008 - frozen
    notify: Callable[[str], None] = lambda _: None,
) -> Verified:
    """Read `sample` random users of the source back, and compare them with what its rows leave.

    `rate` is in reads a minute. What was sent less than `settle` seconds ago is waited for; `notify` gets a
    sentence about each long wait. `seed` None: another sample each time. Raises UsageError for Amplitude's
    EU region, which can't be read, SourceError for a source without users, DestinationError where the key is
    refused or there is no usable answer.
    """
    if sample < 1 or rate <= 0:
        raise UsageError("the sample and the rate must be above 0")
    url, seed = reading_endpoint(job, endpoint), secrets.randbits(32) if seed is None else seed
    reader = ProfileReader(url, secret_key, per_minute=rate, clock=clock, waits=waits, allow_http=allow_http)
    users, rows = UserSample(sample, seed), JobSource(job, source)
    found = Verified(job=job.name, endpoint=url, seed=seed)
    for mapped in rows.mapped_all():
        users.add(mapped.identifications, rows.splice)
        found.rows += mapped.batch.stop - mapped.batch.first
    found.sample, found.complete = len(users.users), len(users.users) < sample
    if not found.sample:
        raise SourceError("the source has no user to read back", hint="see `propsync check` for the reasons")
    written, finished = _last_run(StateDir(state_dir or job.state_dir).checkpoint)
    if not finished:
        notify("the last run isn't finished: what it has not sent yet will differ")

    async def read_all() -> list[ProfileComparison]:
        unsettled = settle - (time.time() - written)
        if unsettled > 0:
            notify(f"waiting {span(unsettled)}: rows were sent less than {span(settle)} ago")
            await reader.clock.sleep(unsettled)
        notify(f"reading {found.sample:,} users back takes at least {span((found.sample - 1) * 60 / rate)}")
        return await _read(reader, users)

    found.take(run_async(read_all))
    return found


def _last_run(path: Path) -> tuple[float, bool]:
    """When a checkpoint was last written, in seconds since the epoch, and whether its run is finished.

    0.0 and True if there is none, or if it can't be read.
    """
    times, finished = [0.0], True
    for file in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            times.append(file.stat().st_mtime)  # before it is opened, which may touch it
    with suppress(EtlError), Checkpoint.look(path) as checkpoint:
        finished = checkpoint is None or checkpoint.progress().finished
    return max(times), finished


def reading_endpoint(job: Job, endpoint: str | None = None) -> str:
    """Where users are read back. Raises UsageError for Amplitude's EU region."""
    reading = profile_endpoint(at_endpoint(job, Settings(endpoint=endpoint)).destination.endpoint)
    if reading is None:
        raise UsageError(
            "users can't be read back from Amplitude's EU region: the User Profile API exists in the US only",
            hint="there is no way around it; `propsync run` counts what the EU accepted",
        )
    return reading


async def _read(reader: ProfileReader, sample: UserSample) -> list[ProfileComparison]:
    """Read and compare each user, several at once. Raises DestinationError if none is known at all."""
    done: dict[int, ProfileComparison] = {}
    left, known = iter(enumerate(sample.users)), False

    async def read_some() -> None:
        nonlocal known
        for number, user in left:
            answer = await reader.read(user.ids)
            profile = None if isinstance(answer, Unseen) else answer
            known |= not isinstance(answer, Unseen) or answer.stated
            done[number] = user.expected.compare(user.name, profile, shared=sample.is_shared(user, profile))

    try:
        async with reader, asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(read_some())
    except ExceptionGroup as group:  # the first error is the cause of the others
        raise group.exceptions[0] from None
    if not known:
        raise DestinationError(
            f"{reader.endpoint} answered 404 to every read: it knows none of these users, or has no User "
            "Profile API",
            hint="check the base URL (`destination.region` or --endpoint)",
        )
    return [done[number] for number in sorted(done)]
