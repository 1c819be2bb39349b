"""Which users have a request under way: a small file beside the checkpoint that tells it after `kill -9`.

A chunk's users are written into a free slot before it is first sent, and the slot is free again once the
chunk is committed. Nothing of that is synced, so it takes microseconds: what a process has written outlives
it. It doesn't outlive a power cut, which shows in the system's boot id: then nobody knows who was in flight.
A slot that was only half written was never sent.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from etl.errors import StaleCheckpointError
from etl.keys import among, without_users
from etl.state_files import state_error, sync_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.model import Chunk
    from etl.responses import Fate

_MAGIC: Final = b"prsyfly1"
_HEAD: Final = struct.Struct("<8sII")  # the mark, and length and checksum of a JSON object
_SLOT: Final = struct.Struct("<IIIIQQ")  # checksum, keys, width, file, first, stop
_NUMBER: Final = struct.Struct("<Q")
_BLOCK: Final = 4096  # the header's, before the first slot; slots are multiples of it
_OPEN, _COMMITS, _FINISHED = 4000, 4008, 4016  # where these numbers stand in the header
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_KEY_BYTES: Final = 16  # of a user and a device


@dataclass(frozen=True, slots=True)
class Flight:
    """Users of the chunk that is the rows `first` to `stop - 1` of a file; `keys` has the shape (k, w)."""

    file: int
    first: int
    stop: int
    keys: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """Of which run the file is. `source` is a digest of everything that decides which bytes it sends.

    `counts`: there are increments in it. `unknown`: more users may be in flight than the slots name.
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
class Left:
    """What a process has left: its run, how many transactions it saw committed, and who was in flight.

    `known` False: the machine was restarted meanwhile, or it never was known.
    """

    mark: RunMark
    commits: int
    finished: bool
    known: bool
    flights: tuple[Flight, ...]


class InFlight:
    """The file of a run under way; only the event loop's thread may touch it. Use it as a context manager.

    On the way out the slots are emptied of which every request was answered by a refusal. Others stay: their
    users may have anything.
    """

    def __init__(
        self, path: Path, descriptor: int, slot_bytes: int, used: int, *, unknown: bool = False
    ) -> None:
        self._path = path
        self._unknown = unknown
        self._file = descriptor
        self._slot_bytes = slot_bytes
        self._free: list[int] = []
        self._slots = used
        self._taken: dict[tuple[int, int], _Taken] = {}

    @classmethod
    def begin(
        cls, path: Path, mark: RunMark, *, users: int, kept: Sequence[Flight] = (), commits: int = 0
    ) -> Self:
        """Begin a file for requests of at most so many users, with what was in flight before (`kept`).

        Raises StateError.
        """
        most = max([users, *(len(flight.keys) for flight in kept)])
        slot_bytes = -(-(_SLOT.size + most * _KEY_BYTES) // _BLOCK) * _BLOCK
        fresh = path.with_name(path.name + ".new")
        try:
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write(descriptor, _header(mark, slot_bytes), 0)
                _write(descriptor, _NUMBER.pack(1) + _NUMBER.pack(commits) + _NUMBER.pack(0), _OPEN)
                found = cls(path, descriptor, slot_bytes, len(kept), unknown=mark.unknown)
                for number, flight in enumerate(kept):
                    found._put(number, flight)
                    place = flight.file, flight.first
                    taken = found._taken.setdefault(place, _Taken())
                    taken.arrived.append(flight.keys)
                    taken.inherited.append(flight.keys)
                    taken.slots.append(number)
                os.fsync(descriptor)
                fresh.rename(path)
                sync_folder(path.parent)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise state_error(path, error) from error
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(OSError):  # then more users count as in flight than were
                for taken in self._taken.values():
                    if not taken.arrived and not taken.under_way:
                        for number in taken.slots:
                            _write(self._file, bytes(_SLOT.size), self._place(number))
                _write(self._file, _NUMBER.pack(0), _OPEN)
                os.fsync(self._file)
        finally:
            os.close(self._file)

    def began(self, part: Chunk) -> None:
        """A request with the users of a part is about to be sent. Raises StateError."""
        taken = self._taken.setdefault((part.file, part.first), _Taken())
        if not self._names(taken, part.keys):
            number = self._free.pop() if self._free else self._slots
            self._slots = max(self._slots, number + 1)
            try:
                self._put(number, Flight(part.file, part.first, part.stop, part.keys))
            except OSError as error:
                raise state_error(self._path, error) from error
            taken.slots.append(number)
        taken.under_way += 1

    def ended(self, part: Chunk, fate: Fate) -> None:
        """It was answered, or never left."""
        taken = self._taken[part.file, part.first]
        taken.under_way -= 1
        if fate != "refused":
            taken.arrived.append(part.keys)

    def inherited(self, chunk: Chunk) -> bool:
        """Whether an earlier process may have sent users of the chunk, and nobody knows if they arrived."""
        taken = self._taken.get((chunk.file, chunk.first))
        found = taken.inherited if taken is not None else []
        return self._unknown or any(np.isin(keys, chunk.keys).any() for keys in found)

    def committed(self, chunk: Chunk, commits: int) -> None:
        """The chunk is committed, in one of so many transactions; its slots are free again.

        Where rows of it are held, only the users who were committed aren't in flight any more.
        """
        place = (chunk.file, chunk.first)
        with suppress(OSError):
            if chunk.held is not None or chunk.again:
                self._narrow(place, chunk.keys)
            if chunk.held is None and (taken := self._taken.pop(place, None)):
                self._free += taken.slots
            _write(self._file, _NUMBER.pack(commits), _COMMITS)

    def finished(self) -> None:
        """The run is finished."""
        self._taken.clear()
        with suppress(OSError):
            _write(self._file, _NUMBER.pack(1), _FINISHED)

    def _narrow(self, place: tuple[int, int], gone: NDArray[np.uint64]) -> None:
        """Some users of a chunk aren't in flight any more; slots without any are emptied, and free."""
        taken = self._taken.get(place)
        if taken is None:
            return
        taken.forget(gone)
        for number in list(taken.slots):
            flight = _flight(os.pread(self._file, self._slot_bytes, self._place(number)))
            if flight is None:
                continue
            keys = without_users(flight.keys, gone[:, 0])
            if len(keys) == len(flight.keys):
                continue
            if len(keys):
                self._put(number, replace(flight, keys=keys))
            else:
                _write(self._file, bytes(_SLOT.size), self._place(number))
                taken.slots.remove(number)
                self._free.append(number)

    def _names(self, taken: _Taken, keys: NDArray[np.uint64]) -> bool:
        """Whether the slots of a chunk name all of these users; of a request sent again they do."""
        if not taken.slots:
            return False
        slots = [os.pread(self._file, self._slot_bytes, self._place(number)) for number in taken.slots]
        named = [flight.keys[:, 0] for slot in slots if (flight := _flight(slot)) is not None]
        return bool(among(keys[:, 0], np.concatenate(named)).all()) if named else False

    def _put(self, number: int, flight: Flight) -> None:
        _write(self._file, _packed(flight), self._place(number))

    def _place(self, number: int) -> int:
        return _BLOCK + number * self._slot_bytes


def left_by(path: Path) -> Left | None:
    """What the last process has left at `path`; None where there is nothing.

    Raises StaleCheckpointError where it can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StaleCheckpointError(f"{path} can't be read: {error.strerror}") from error
    try:
        mark, slot_bytes = _read_header(data)
        is_open, commits, finished = (_NUMBER.unpack_from(data, at)[0] for at in (_OPEN, _COMMITS, _FINISHED))
    except (ValueError, KeyError, TypeError, struct.error):
        return None  # as good as none: then nobody knows who was in flight
    known = not mark.unknown and (not is_open or mark.boot == _boot_id())
    mark = replace(mark, unknown=not known)
    return Left(mark, commits, bool(finished), known, tuple(_flights(data, slot_bytes)))


@dataclass(slots=True)
class _Taken:
    """The slots of a chunk. `arrived`: users whose requests were applied, or may have been.

    `inherited`: users whom an earlier process sent, which didn't live to see the answer.
    """

    arrived: list[NDArray[np.uint64]] = field(default_factory=list)
    inherited: list[NDArray[np.uint64]] = field(default_factory=list)
    under_way: int = 0
    slots: list[int] = field(default_factory=list)

    def forget(self, gone: NDArray[np.uint64]) -> None:
        """These users are committed."""
        for found in (self.arrived, self.inherited):
            found[:] = [left for keys in found if len(left := without_users(keys, gone[:, 0]))]


def _header(mark: RunMark, slot_bytes: int) -> bytes:
    text = json.dumps({"slot_bytes": slot_bytes, **asdict(mark)}).encode()
    return _HEAD.pack(_MAGIC, len(text), zlib.crc32(text)) + text


def _read_header(data: bytes) -> tuple[RunMark, int]:
    magic, length, checksum = _HEAD.unpack_from(data)
    text = data[_HEAD.size : _HEAD.size + length]
    if magic != _MAGIC or zlib.crc32(text) != checksum:
        raise ValueError("not ours")
    fields: dict[str, Any] = json.loads(text)
    slot_bytes = int(fields.pop("slot_bytes"))
    return RunMark(**fields), slot_bytes


def _packed(flight: Flight) -> bytes:
    keys = np.ascontiguousarray(flight.keys, "<u8")
    rest = _SLOT.pack(0, *keys.shape, flight.file, flight.first, flight.stop)[4:] + keys.tobytes()
    return zlib.crc32(rest).to_bytes(4, "little") + rest


def _flights(data: bytes, slot_bytes: int) -> Iterator[Flight]:
    for place in range(_BLOCK, len(data), slot_bytes):
        if (flight := _flight(data[place : place + slot_bytes])) is not None:
            yield flight


def _flight(slot: bytes) -> Flight | None:
    """The inverse of `_packed`; None for a slot that is empty or was not written whole."""
    if len(slot) < _SLOT.size:
        return None
    checksum, count, width, file, first, stop = _SLOT.unpack_from(slot)
    end = _SLOT.size + count * width * 8
    if not count or end > len(slot) or zlib.crc32(slot[4:end]) != checksum:
        return None
    keys = np.frombuffer(slot, "<u8", count * width, _SLOT.size)
    return Flight(file, first, stop, keys.reshape(count, width))


def _write(descriptor: int, data: bytes, place: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, place)
        data, place = data[written:], place + written


def _boot_id() -> str:
    with suppress(OSError):
        return _BOOT.read_text().strip()
    return ""


def users_of(flights: Iterable[Flight]) -> int:
    """How many users that are, at most."""
    return sum(len(flight.keys) for flight in flights)
