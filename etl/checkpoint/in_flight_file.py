"""The file `in_flight`: which users have a request in flight, for the process that comes after `kill -9`.

The file also shows that process whether the checkpoint has all that was committed.

Before a chunk is first sent, its users are written into a free slot; the slot is free again once the chunk is
committed. The writes aren't synced, so they take microseconds: they outlive the process, but not a power cut.
After one the system has another boot id, and then it is unknown who was in flight. A chunk whose slot is half
written was never sent.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ..errors import StaleCheckpointError
from ..state_files import replacing_file, state_error
from ..subject import keys_in, without_users
from ..tally import RangeSet, RowRange
from .store import Checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model import Chunk
    from .state_dir import StateDir

_MAGIC: Final = b"prsyfly1"
_HEAD: Final = struct.Struct("<8sII")  # the magic bytes, and length and checksum of a JSON object
_SLOT: Final = struct.Struct("<IIIIQQ")  # checksum, keys, width, file, first, stop
_NUMBERS: Final = struct.Struct("<QQQ")
_BLOCK: Final = 4096  # bytes of the header; those of a slot are a multiple of it
_OPEN, _COMMITS, _FINISHED = 4000, 4008, 4016  # places of these numbers in the header
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_KEY_BYTES: Final = 16  # of a user and a device


@dataclass(frozen=True, slots=True)
class Flight:
    """Users in flight of a chunk, the rows `first` to `stop - 1` of a file; `keys` has the shape (k, w)."""

    file: int
    first: int
    stop: int
    keys: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """The run that a file belongs to. `source` is a digest of everything that decides which bytes it sends.

    `counts`: the job has increments. `unknown`: more users may be in flight than the slots name.
    """

    run_id: str
    number: int
    source: str
    endpoint: str = ""
    counts: bool = False
    began: float = field(default_factory=time.time)
    unknown: bool = False
    boot: str = field(default_factory=lambda: _boot_id())


@dataclass(frozen=True, slots=True)
class InFlightContents:
    """The file of the last process: its run, how many transactions it committed, and who was in flight.

    The mark is `unknown` if others may have been in flight, too, as after a restart of the machine.
    """

    mark: RunMark
    commits: int
    finished: bool
    flights: tuple[Flight, ...]


class InFlightFile(AbstractContextManager["InFlightFile"]):
    """The file of an active run; only the event loop's thread may use it. Use it as a context manager.

    On exit the slots of chunks are cleared if all their requests were refused. Other slots stay: it is
    unknown what their users have.
    """

    def __init__(
        self, path: Path, mark: RunMark, *, users: int, kept: Sequence[Flight] = (), commits: int = 0
    ) -> None:
        """Begin a file for requests of at most so many users; `kept` were in flight. Raises StateError."""
        self._path, self._unknown = path, mark.unknown
        self._free: list[int] = []
        self._unused = count(len(kept))
        self._chunks = defaultdict[tuple[int, int], _ChunkSlots](_ChunkSlots)
        most = max([users, *(len(flight.keys) for flight in kept)])
        self._slot_bytes = -(-(_SLOT.size + most * _KEY_BYTES) // _BLOCK) * _BLOCK
        text = json.dumps({"slot_bytes": self._slot_bytes, **asdict(mark)}).encode()
        header = _HEAD.pack(_MAGIC, len(text), zlib.crc32(text)) + text
        with replacing_file(path) as file:
            file.write(header.ljust(_OPEN, b"\0") + _NUMBERS.pack(1, commits, 0))
            for number, flight in enumerate(kept):
                file.seek(_BLOCK + number * self._slot_bytes)
                file.write(_pack(flight))
                chunk = self._chunks[flight.file, flight.first]
                chunk.arrived.append(flight.keys)
                chunk.inherited.append(flight.keys)
                chunk.slots[number] = flight
            self._file = os.dup(file.fileno())

    def __exit__(self, *_: object) -> None:
        try:
            with suppress(OSError):  # then more users count as in flight than were
                refused = (one for one in self._chunks.values() if not one.arrived and not one.requests)
                for number in chain.from_iterable(chunk.slots for chunk in refused):
                    self._put(number, None)
                self._write(bytes(8), _OPEN)
                os.fsync(self._file)
        finally:
            os.close(self._file)

    def began(self, part: Chunk) -> None:
        """Note that a request with the users of a part is about to be sent. Raises StateError."""
        chunk = self._chunks[part.file, part.first]
        named = [flight.keys[:, 0] for flight in chunk.slots.values()]
        if not named or not keys_in(part.keys[:, 0], np.concatenate(named)).all():
            number = self._free.pop() if self._free else next(self._unused)
            flight = Flight(part.file, part.first, part.stop, part.keys)
            try:
                self._put(number, flight)
            except OSError as error:
                raise state_error(self._path, error) from error
            chunk.slots[number] = flight
        chunk.requests += 1

    def ended(self, part: Chunk, *, arrived: bool) -> None:
        """Note that the request was answered, or never sent; `arrived`: it was applied, or may have been."""
        chunk = self._chunks[part.file, part.first]
        chunk.requests -= 1
        if arrived:
            chunk.arrived.append(part.keys)

    def inherited(self, chunk: Chunk) -> bool:
        """Whether an earlier process may have sent users of the chunk without reading the answer."""
        found = self._chunks.get((chunk.file, chunk.first))
        others = found.inherited if found is not None else ()
        return self._unknown or any(np.isin(keys, chunk.keys).any() for keys in others)

    def committed(self, chunk: Chunk, commits: int) -> None:
        """Free the slots of a chunk, which is committed in transaction number `commits`.

        If rows of it are held, only the users of the others are not in flight any more.
        """
        place = (chunk.file, chunk.first)
        with suppress(OSError):
            if chunk.held is not None or chunk.again:
                found, gone = self._chunks.get(place, _ChunkSlots()), chunk.keys[:, 0]
                for lists in (found.arrived, found.inherited):
                    lists[:] = [stay for keys in lists if len(stay := without_users(keys, gone))]
                for number, flight in found.slots.items():
                    left = found.slots[number] = replace(flight, keys=without_users(flight.keys, gone))
                    self._put(number, left if len(left.keys) else None)
            if chunk.held is None and place in self._chunks:
                self._free += self._chunks.pop(place).slots
            self._write(commits.to_bytes(8, "little"), _COMMITS)

    def finished(self) -> None:
        """Note that the run is finished."""
        self._chunks.clear()
        with suppress(OSError):
            self._write((1).to_bytes(8, "little"), _FINISHED)

    def _put(self, number: int, flight: Flight | None) -> None:
        data = bytes(_SLOT.size) if flight is None else _pack(flight)
        self._write(data, _BLOCK + number * self._slot_bytes)

    def _write(self, data: bytes, place: int) -> None:
        while data:
            written = os.pwrite(self._file, data, place)
            data, place = data[written:], place + written


def read_in_flight(path: Path) -> InFlightContents | None:
    """Read what the last process left at `path`; None if there is no such file, or it is not one of propsync.

    Raises StaleCheckpointError if it can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StaleCheckpointError(f"{path} can't be read: {error.strerror}") from error
    try:
        magic, length, checksum = _HEAD.unpack_from(data)
        text = data[_HEAD.size : _HEAD.size + length]
        if magic != _MAGIC or zlib.crc32(text) != checksum:
            return None
        fields = json.loads(text)
        slot_bytes = int(fields.pop("slot_bytes"))
        mark = RunMark(**fields)
        is_open, commits, finished = _NUMBERS.unpack_from(data, _OPEN)
    except (ValueError, KeyError, TypeError, struct.error):
        return None
    unknown = mark.unknown or (is_open and mark.boot != _boot_id())
    slots = (_unpack(data[place : place + slot_bytes]) for place in range(_BLOCK, len(data), slot_bytes))
    flights = tuple(flight for flight in slots if flight is not None)
    return InFlightContents(replace(mark, unknown=bool(unknown)), commits, bool(finished), flights)


def load_checkpoint(folder: StateDir, previous: InFlightContents | None) -> Checkpoint | None:
    """The checkpoint of a folder; None if there is none and none is missing.

    Raises StaleCheckpointError for one that is damaged, or lacks what a process saw committed.
    """
    with ExitStack() as stack:
        found, problem = Checkpoint.load(folder.checkpoint), None
        if found is not None:
            progress = stack.enter_context(found).progress()
            mine = previous if previous is not None and previous.mark.run_id == progress.run_id else None
            if mine and (mine.commits > progress.commits or (mine.finished and not progress.finished)):
                problem = "lacks what was committed last: the file beside it that ends in -wal is gone"
        elif (
            previous is not None
            and not previous.finished
            and (previous.commits or previous.flights or previous.mark.unknown)
        ):
            problem = "is gone, and its run isn't finished"
        if problem is not None:
            raise StaleCheckpointError(f"the checkpoint {folder.checkpoint} {problem}", damaged=True)
        stack.pop_all()
    return found


def uncommitted_flights(previous: InFlightContents | None, found: Checkpoint) -> tuple[Flight, ...] | None:
    """The users in flight when the last process of a checkpoint's run ended; None if they are unknown."""
    progress = found.progress()
    if previous is None or previous.mark.run_id != progress.run_id:
        # The file is made before anything is sent, and the run's first transaction comes after that.
        return () if progress.commits == 0 else None
    if previous.mark.unknown:
        return None
    ranges = RangeSet(found.committed(), found.held())
    flights = []
    for flight in previous.flights:
        gaps = ranges.gaps(flight.file)
        if any(one.first < flight.stop and (one.stop is None or one.stop > flight.first) for one in gaps):
            if ranges.held(RowRange(flight.file, flight.first, flight.stop)) is not None:
                # Users who were committed while others of the chunk were held.
                sent = found.sent((flight.file, flight.first), (flight.file, flight.first + 1))
                gone = [flight.keys[:0, 0], *(entries.keys[:, 0] for entries in sent)]
                flight = replace(flight, keys=without_users(flight.keys, np.concatenate(gone)))
            flights.append(flight)
    return tuple(flight for flight in flights if len(flight.keys))


@dataclass(slots=True)
class _ChunkSlots:
    """The slots of a chunk by their number. `arrived`: users whose requests were applied, or may have been.

    `inherited`: users whom an earlier process sent without reading the answer. `requests` counts those
    without an answer.
    """

    slots: dict[int, Flight] = field(default_factory=dict)
    arrived: list[NDArray[np.uint64]] = field(default_factory=list)
    inherited: list[NDArray[np.uint64]] = field(default_factory=list)
    requests: int = 0


def _pack(flight: Flight) -> bytes:
    keys = np.ascontiguousarray(flight.keys, "<u8")
    rest = _SLOT.pack(0, *keys.shape, flight.file, flight.first, flight.stop)[4:] + keys.tobytes()
    return zlib.crc32(rest).to_bytes(4, "little") + rest


def _unpack(slot: bytes) -> Flight | None:
    """Read a slot; None where it is empty or was not written whole."""
    if len(slot) < _SLOT.size:
        return None
    checksum, count, width, file, first, stop = _SLOT.unpack_from(slot)
    end = _SLOT.size + count * width * 8
    if not count or end > len(slot) or zlib.crc32(slot[4:end]) != checksum:
        return None
    keys = np.frombuffer(slot, "<u8", count * width, _SLOT.size)
    return Flight(file, first, stop, keys.reshape(count, width))


def _boot_id() -> str:
    with suppress(OSError):
        return _BOOT.read_text().strip()
    return ""
