"""The requests that the sandbox remembers: for limits and figures, and to know those that come again.

No body is kept, and no key.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import orjson

from .api_rules import INSERT_ID_SECONDS, RequestRefusedError
from .profiles import MapStore, StoredMap, UserKey
from .sandbox_options import SandboxError, SandboxOptions

_MOST_RECENT: Final = 50  # requests that the page shows
_HOUR_SECONDS: Final = 3600.0
# The kind of id that an insert_id belongs to, that id, and the insert_id.
InsertKey: TypeAlias = tuple[str, str, str]


# --- who is let in, and how often: over all paths together -----------------------------------------------


class Limiter:
    """Counts against the options' limits; what is above one is a RequestRefusedError."""

    def __init__(self, options: SandboxOptions, clock: Callable[[], float]) -> None:
        self._options = options
        self._hot_tries: Counter[str] = Counter()
        self._requests = TokenBucket(options.requests_per_second, clock)
        self._identifications = TokenBucket(options.identifications_per_second, clock)
        self._reads = TokenBucket(options.reads_per_minute and options.reads_per_minute / 60, clock)
        per_second, window = options.user_updates_per_second, options.user_window
        self._updates = RollingCount(per_second and per_second * window, window, clock)
        self._hourly_updates = RollingCount(options.user_updates_per_hour, _HOUR_SECONDS, clock)

    def admit_request(self) -> None:
        """Let one more request in."""
        if not self._requests.take(1):
            raise RequestRefusedError(429, "too many requests a second")

    def admit_identifications(self, count: int) -> None:
        """Let that many identifications or events in."""
        if not self._identifications.take(count):
            raise RequestRefusedError(429, "too many identifications a second")

    def admit_read(self, authorization: str) -> None:
        """Let one more read with this Authorization header in."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "api-key" or not secret.strip():
            raise RequestRefusedError(401, "Missing Api-Key in Authorization header")
        if not _is_right(secret.strip(), self._options.secret_keys):
            raise RequestRefusedError(401, "Invalid Api-Key")
        if not self._reads.take(1):
            raise RequestRefusedError(429, "Number of requests per minute exceeds system limit")

    def check_key(self, api_key: str | None) -> None:
        """Refuse a wrong API key; the refusal's reason never holds it."""
        if not _is_right(api_key, self._options.api_keys):
            message = f"Invalid API key: {api_key or ''}" if self._options.echo_key else "invalid_api_key"
            raise RequestRefusedError(400, message, reason="invalid_api_key")

    def hot(self, names: Collection[str]) -> list[str]:
        """Return the hot ones among the ids of one request, and count the try."""
        hot, limit = self._options.hot_users.intersection(names), self._options.hot_tries
        self._hot_tries.update(hot)
        return [name for name in hot if limit is None or self._hot_tries[name] <= limit]

    def quick(self, names: Collection[str]) -> list[str]:
        """Return those who can't have one more update now, on the average of the window."""
        return [name for name in names if self._updates.full(name)]

    def count_update(self, name: str) -> bool:
        """Count one update of a user; False where the hourly limit drops it."""
        self._updates.add(name)
        if self._hourly_updates.full(name):
            return False
        self._hourly_updates.add(name)
        return True


def _is_right(key: str | None, right_keys: frozenset[str]) -> bool:
    """Whether a key is one of the right ones; without those any key that isn't empty is right."""
    return bool(key) and (not right_keys or key in right_keys)


class TokenBucket:
    """Lets `rate` tokens a second through, and at once those of a second after a pause; None: no limit."""

    def __init__(self, rate: float | None, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._capacity = max(rate or 0.0, 1.0)
        self._level = self._capacity
        self._clock = clock
        self._seen = clock()

    def take(self, tokens: int) -> bool:
        """Take all the tokens or none.

        A full bucket serves any number and goes into debt, or a request above one second's worth could never
        pass.
        """
        if self._rate is None:
            return True
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._seen) * self._rate)
        self._seen = now
        if self._level < min(tokens, self._capacity):
            return False
        self._level -= tokens
        return True


class RollingCount:
    """Counts updates by user over the last `window` seconds, against `most` of them; None means no limit."""

    def __init__(self, most: float | None, window: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._window = window
        self._clock = clock
        self._times: dict[str, deque[float]] = {}

    def full(self, user: str) -> bool:
        """Whether one more update of the user would be too many; the first in a window never is."""
        times = self._times.get(user)
        while times and times[0] <= self._clock() - self._window:
            times.popleft()
        return bool(self._most is not None and times and len(times) + 1 > self._most)

    def add(self, user: str) -> None:
        """Count one update of the user now."""
        if self._most is not None:
            self._times.setdefault(user, deque()).append(self._clock())


# --- figures, and a record of each request ---------------------------------------------------------------


@dataclass(slots=True)
class Stats:
    """Counts since the start or the last reset.

    `requests`, `bytes` (of bodies) and `statuses` are of requests with updates; one that was dropped without
    an answer has no status. `accepted` counts requests and `identifications` what was in them, without
    `repeated_inserts`, which are events whose insert_id came before; other events are in `events`. `faults`
    by kind and moment. `concurrent_users` counts users found in two requests under way together,
    `repeated_users` those found again in one request, `dropped_updates` what the hourly limit swallowed,
    `unknown_keys` by name the keys of identifications that the API doesn't have, `reads` profiles asked for.
    """

    requests: int = 0
    accepted: int = 0
    identifications: int = 0
    events: int = 0
    repeated_inserts: int = 0
    bytes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    concurrent_users: int = 0
    repeated_users: int = 0
    dropped_updates: int = 0
    unknown_keys: Counter[str] = field(default_factory=Counter)
    reads: int = 0

    def count(self, record: RequestRecord) -> None:
        """Count a request with updates."""
        self.requests += 1
        self.accepted += record.applied
        self.bytes += record.size
        if record.status is not None:
            self.statuses[record.status] += 1
        if record.fault is not None:
            self.faults[record.fault] += 1


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request with updates as the journal keeps it.

    `received` is in seconds since the epoch; `sha256` is the hex digest of the body as it came, and `size`
    its bytes. `identifications` counts what was in it, for the event APIs events of any type. `status` is
    None where no whole answer was given. `reason` is why the answer isn't success, `fault` what was done to
    the request on purpose.
    """

    path: str
    received: float
    sha256: str
    size: int
    identifications: int
    users: int
    status: int | None
    applied: bool
    fault: str | None
    reason: str


class Journal:
    """Records in the order of their answers: those that are kept, the last ones in any case, and a file."""

    def __init__(self, path: Path | None) -> None:
        """Open the file to append to it. Raises SandboxError."""
        self.records: list[RequestRecord] = []
        self.recent: deque[RequestRecord] = deque(maxlen=_MOST_RECENT)
        try:
            # Unbuffered, so that a reader of the file sees every answered request.
            self._file = None if path is None else path.open("ab", buffering=0)
        except OSError as error:
            hint = "give --journal a file in a folder that exists and can be written"
            raise SandboxError(f"the journal {path} can't be opened: {error.strerror}", hint=hint) from error

    def add(self, record: RequestRecord, *, keep: bool) -> None:
        """Write a record, and `keep` it in memory or only as one of the last."""
        self.recent.append(record)
        if keep:
            self.records.append(record)
        if self._file is not None:
            self._file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


# --- what comes again, or twice at once ------------------------------------------------------------------


class InsertIdMemory:
    """Remembers each key for seven days from when it first came; coming again doesn't prolong that."""

    def __init__(self, clock: Callable[[], float], store: MapStore | None = None) -> None:
        """`clock` is monotonic, in seconds."""
        self._clock = clock
        self._first = StoredMap[float](store or MapStore(), "insert_id")

    def add(self, key: InsertKey) -> bool:
        """Remember a key; False where it is remembered already."""
        now, name = self._clock(), orjson.dumps(key).decode()
        if self._first.get(name, -math.inf) > now - INSERT_ID_SECONDS:
            return False
        self._first[name] = now
        return True


@dataclass(slots=True, eq=False)
class OpenRequest:
    """A request from its first byte to its answer. `is_gone` returns whether its client has hung up.

    `met` are the users of requests that had their answers meanwhile.
    """

    is_gone: Callable[[], bool]
    users: Set[UserKey] = frozenset()
    met: set[UserKey] = field(default_factory=set)


class RequestsInFlight:
    """The requests under way.

    Requests are compared over their whole time, since a quick server reads the second of two only when it is
    through with the first.
    """

    def __init__(self) -> None:
        self._requests: list[OpenRequest] = []

    def begin(self, is_gone: Callable[[], bool]) -> OpenRequest:
        """Note a request's first byte. A client that has hung up by now may send the same users again."""
        request = OpenRequest(is_gone)
        self._requests = [*(other for other in self._requests if not other.is_gone()), request]
        return request

    def set_users(self, request: OpenRequest, users: Set[UserKey]) -> int:
        """Note who is in the request; return how many of them are in another one at the same time."""
        others = (other.users for other in self._requests if other is not request)
        request.users = users
        return len(users & request.met.union(*others))

    def end(self, request: OpenRequest) -> None:
        """Note that the request has its answer."""
        if request in self._requests:
            self._requests.remove(request)
            for other in self._requests:
                other.met |= request.users
