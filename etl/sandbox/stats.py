"""What the sandbox counts and what it records of each request: never a body, never a key."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from .profiles import UserKey
from .sandbox_options import SandboxError

MOST_RECENT: Final = 50  # requests that the page shows


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
    None where no whole answer was given. `reason` is why the answer isn't success, `fault` what was done
    to the request on purpose.
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
        self.recent: deque[RequestRecord] = deque(maxlen=MOST_RECENT)
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

    Requests are compared over their whole time, since a quick server reads the second of two only when
    it is through with the first.
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
