"""A snapshot is the old one with what was accepted since, whole, whatever happens while it is written."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from etl.errors import StaleCheckpointError, StateError
from etl.pipeline.status import look_at_snapshot
from etl.snapshot import BitSet, FieldGroup, Layout, Snapshot, SnapshotWriter, file, sorted_file
from etl.snapshot.snapshot_entries import SnapshotEntries, entries_in, last_fingerprints
from etl.snapshot.spill_buffer import SpillBuffer
from tests.examples import each_row, examples
from tests.forking import forks
from tests.snapshot.builders import header, opened, opened_if_any

# A snapshot as plain Python: for each key the run, and the fingerprints by name.
Model = dict[int, tuple[int, dict[str, int]]]

NAMES = ("$set.a", "$set.b", "$set.c")
LOW = [0, 1, 2, 3, 2**55, 2**56 - 1, 2**56, 2**57, 2**63, 2**64 - 2, 2**64 - 1]
KEYS = st.sampled_from(LOW)
PRINTS = st.integers(0, 3)


def names_in(folder: str | Path) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def layout_with(names: tuple[str, ...], mode: Any = "property") -> Layout:
    bundles = tuple(FieldGroup(name, (("user_properties", "$set", name),)) for name in names)
    return Layout(mode, bundles)


@st.composite
def nights(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """For each run the columns of its job, the rows in order with those in doubt, who left, who stayed."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        names = tuple(draw(st.permutations(NAMES)))[: draw(st.integers(1, 3))]
        doubts = st.sampled_from([False, False, True])
        row = st.tuples(KEYS, st.lists(PRINTS, min_size=len(names), max_size=len(names)), doubts)
        left, stayed = (draw(st.lists(KEYS, max_size=3)) for _ in range(2))
        found.append((names, draw(st.lists(row, max_size=12)), left, stayed))
    return found


def renewed(
    model: Model, number: int, names: tuple[str, ...], rows: Any, gone: list[int], same: list[int]
) -> Model:
    kept = {
        key: (number if key in same else run, fingerprints)
        for key, (run, fingerprints) in model.items()
        if key not in gone
    }
    fresh = {
        key: (run, {name: fingerprints.get(name, 0) for name in names})
        for key, (run, fingerprints) in kept.items()
    }
    for key, fingerprints, doubtful in rows:
        before = fresh.get(key, (0, dict.fromkeys(names, 0)))[1]
        now = dict(zip(names, fingerprints, strict=True))
        if doubtful:  # of what such a row gives nobody knows what it is
            fresh[key] = (number, {name: 0 if now[name] else before[name] for name in names})
        else:
            fresh[key] = (number, {name: now[name] or before[name] for name in names})
    return fresh


def contents(path: Path, layout: Layout) -> Model:
    with opened(path) as snapshot:
        entries = entries_in(snapshot.between(0, 2**64), layout, snapshot.names)
        assert entries.keys.tolist() == sorted(entries.keys.tolist())
        runs = snapshot.runs(snapshot.find(entries.keys)).tolist()
        rows = zip(entries.keys.tolist(), runs, entries.fingerprints.tolist(), strict=True)
        return {
            key: (run, dict(zip(layout.names, fingerprints, strict=True))) for key, run, fingerprints in rows
        }


def matrices(rows: list[tuple[int, list[int]]], layout: Layout) -> tuple[NDArray[Any], NDArray[Any]]:
    keys = np.array([key for key, _ in rows], dtype=np.uint64).reshape(-1, 1)
    return keys, np.array([own for _, own in rows], dtype=layout.dtype).reshape(-1, len(layout.names))


@settings(max_examples=examples(40, 15))
@given(nights(), st.sampled_from([0, 100, 10**6]), st.sampled_from([60, 200, 10**7]))
def test_every_snapshot_is_what_one_would_write_down_row_by_row(runs: Any, held: int, partition: int) -> None:
    model: Model = {}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(SpillBuffer.__init__, "__kwdefaults__", {"held_bytes": held})
        patch.setattr(sorted_file, "PARTITION_BYTES", partition)
        path = Path(folder, "snapshot.arrow")
        for number, (names, rows, gone, same) in enumerate(runs, start=1):
            layout = layout_with(names)
            with ExitStack() as stack:
                old = stack.enter_context(opened_if_any(path))
                unchanged = BitSet(len(old) if old else 0)
                if old:
                    unchanged.add(old.find(np.array(same, np.uint64)))
                fresh = stack.enter_context(
                    SnapshotWriter(path, layout, header(number), old=old, unchanged=unchanged)
                )
                for key, fingerprints, doubtful in rows:
                    (fresh.invalidate if doubtful else fresh.add)(*matrices([(key, fingerprints)], layout))
                for key in gone:
                    fresh.forget(np.array([key], dtype=np.uint64))
                entries = fresh.finish()
            model = renewed(model, number, names, rows, gone, same)
            assert contents(path, layout) == model
            assert entries == len(model)
            assert names_in(folder) == ["snapshot.arrow"]


@given(st.lists(st.tuples(KEYS, st.lists(PRINTS, min_size=2, max_size=2)), max_size=20))
def test_of_a_user_the_last_print_that_was_given_counts(rows: list[tuple[int, list[int]]]) -> None:
    keys, fingerprints = matrices(rows, layout_with(NAMES[:2]))
    added = SnapshotEntries(keys.ravel(), np.ones(len(keys), np.uint32), fingerprints)
    entries, unknown = last_fingerprints(added, np.zeros(2, np.bool_))
    assert unknown is None
    wanted: dict[int, list[int]] = {}
    for key, own in rows:
        before = wanted.get(key, [0, 0])
        wanted[key] = [now or was for now, was in zip(own, before, strict=True)]
    assert dict(zip(entries.keys.tolist(), entries.fingerprints.tolist(), strict=True)) == wanted
    assert entries.keys.tolist() == sorted(wanted)


def test_who_is_in_doubt_stays_so_until_something_is_known(tmp_path: Path) -> None:
    path, layout = tmp_path / "snapshot.arrow", layout_with(NAMES[:2])
    key, both, first = np.array([[7]], np.uint64), np.array([[5, 5]]), np.array([[6, 0]])

    def night(number: int, *calls: tuple[str, NDArray[Any]], unchanged: bool = False) -> tuple[Any, bool]:
        seen = BitSet(1)
        seen.add(np.array([0] if unchanged else []).astype(np.int64))
        with (
            opened_if_any(path) as old,
            SnapshotWriter(path, layout, header(number), old=old, unchanged=seen if old else None) as fresh,
        ):
            for what, fingerprints in calls:
                getattr(fresh, what)(key, fingerprints.astype(layout.dtype))
            fresh.finish()
        with opened(path) as snapshot:
            return contents(path, layout)[7], bool(len(snapshot.doubtful()))

    def has(run: int, a: int, b: int) -> tuple[int, dict[str, int]]:
        return run, {"$set.a": a, "$set.b": b}

    assert night(1, ("add", both)) == (has(1, 5, 5), False)
    assert night(2, ("add", first), ("invalidate", first)) == (has(2, 0, 5), True)
    assert night(3) == (has(2, 0, 5), True)
    assert night(4, unchanged=True) == (has(4, 0, 5), True)
    assert night(5, ("invalidate", both), ("add", first)) == (has(5, 6, 0), True)
    assert night(6, ("invalidate", both), ("add", both)) == (has(6, 5, 5), False)
    assert night(7, ("invalidate", both[:, :0])) == (has(7, 0, 0), True)


@pytest.mark.parametrize("names", [(), NAMES[:1]])
@pytest.mark.parametrize("rows", [0, 2])
def test_whatever_a_job_compares_its_rows_may_be_in_doubt(
    tmp_path: Path, names: tuple[str, ...], rows: int
) -> None:
    """A job of counters alone compares nothing, and yet knows its users."""
    path, layout = tmp_path / "snapshot.arrow", layout_with(names)
    keys = np.arange(1, rows + 1, dtype=np.uint64).reshape(-1, 1)
    for number in (1, 2):
        with opened_if_any(path) as old, SnapshotWriter(path, layout, header(number), old=old) as fresh:
            fresh.add(keys, np.ones((rows, len(names)), dtype=layout.dtype))
            fresh.invalidate(keys, np.empty((rows, 0), dtype=layout.dtype))
            assert fresh.finish() == rows
    assert contents(path, layout) == {key: (2, dict.fromkeys(names, 0)) for key in range(1, rows + 1)}


def test_a_row_with_two_ids_makes_an_entry_for_each_and_one_without_a_device_only_one(tmp_path: Path) -> None:
    path, layout = tmp_path / "snapshot.arrow", layout_with(NAMES[:1])
    keys = np.array([[1, 7], [2, 2**64 - 1 - 2], [3, 3]], dtype=np.uint64)
    with SnapshotWriter(path, layout, header()) as fresh:
        fresh.add(keys, np.array([[10], [20], [30]], dtype=np.uint32))
        fresh.finish()
    assert {key: own["$set.a"] for key, (_, own) in contents(path, layout).items()} == {
        1: 10,
        7: 10,
        2: 20,
        3: 30,
    }


def test_by_user_there_is_nothing_but_key_run_and_fingerprint(tmp_path: Path) -> None:
    path, layout = tmp_path / "snapshot.arrow", layout_with(NAMES, "user")
    n = 10_000
    keys = np.arange(n, dtype=np.uint64).reshape(-1, 1) << np.uint64(40)
    with SnapshotWriter(path, layout, header()) as fresh:
        fresh.add(keys, (keys + np.uint64(1)) * np.uint64(2**20 + 1))
        fresh.finish()
    found = contents(path, layout)
    assert found[5 << 40] == (1, {"fingerprint": ((5 << 40) + 1) * (2**20 + 1)})
    assert path.stat().st_size < 20.2 * n


def test_a_snapshot_is_for_its_owner_only(tmp_path: Path) -> None:
    path = write(tmp_path / "snapshot.arrow", 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_snapshot_tells_what_it_is_of(tmp_path: Path) -> None:
    with opened(write(tmp_path / "snapshot.arrow", 7)) as snapshot:
        found = replace(header(7), created=snapshot.header.created)
        assert (snapshot.header, snapshot.mode, snapshot.names) == (found, "property", NAMES[:1])
        assert len(snapshot) == 3


def write(path: Path, number: int, *, keys: tuple[int, ...] = (1, 2, 3)) -> Path:
    layout = layout_with(NAMES[:1])
    with opened_if_any(path) as old, SnapshotWriter(path, layout, header(number), old=old) as fresh:
        fresh.add(*matrices([(key, [number]) for key in keys], layout))
        fresh.finish()
    return path


# --- what can go wrong -----------------------------------------------------------------------------------


def write_and_die(path: Path, calls: int) -> None:
    """Write a snapshot in a process that is killed before the given one of the calls that change the disk."""
    left = [calls]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    patch = pytest.MonkeyPatch()  # nothing is undone: the process ends
    for owner, name in ((os, "fsync"), (os, "open"), (Path, "replace"), (file, "snapshot_rows")):
        patch.setattr(owner, name, dying(getattr(owner, name)))
    write(path, 2, keys=(2, 3, 4))


def test_a_kill_leaves_the_old_snapshot_or_the_new_one_and_no_other_file_for_long(tmp_path: Path) -> None:
    layout = layout_with(NAMES[:1])
    for calls in range(1, 7):
        (tmp_path / str(calls)).mkdir()
        path = write(tmp_path / str(calls) / "snapshot.arrow", 1)
    before = contents(path, layout)
    after = {1: before[1]} | {key: (2, {"$set.a": 2}) for key in (2, 3, 4)}
    for calls in range(1, 7):
        process = forks().Process(
            target=write_and_die, args=(tmp_path / str(calls) / "snapshot.arrow", calls)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        path = tmp_path / str(calls) / "snapshot.arrow"
        assert contents(path, layout) == (before if calls <= 4 else after), calls
        write(path, 3)
        assert names_in(path.parent) == ["snapshot.arrow"]


def test_of_emptied_users_only_what_is_added_is_known(tmp_path: Path) -> None:
    path, layout = write(tmp_path / "snapshot.arrow", 1), layout_with(NAMES[:1])
    with opened(path) as old, SnapshotWriter(path, layout, header(2), old=old) as fresh:
        fresh.empty(np.array([1, 2, 9], dtype=np.uint64))
        fresh.add(*matrices([(2, [2])], layout))
        fresh.finish()
    assert contents(path, layout) == {1: (1, {"$set.a": 0}), 2: (2, {"$set.a": 2}), 3: (1, {"$set.a": 1})}
    with opened(path) as found:
        assert found.doubtful().has(np.arange(3)).tolist() == [True, False, False]


def test_without_an_end_nothing_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "snapshot.arrow", 1)
    before = path.read_bytes()
    layout = layout_with(NAMES[:1])
    with SnapshotWriter(path, layout, header(2)) as fresh:
        fresh.add(*matrices([(9, [9])], layout))
    assert path.read_bytes() == before


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        yield


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_told_and_leaves_the_old_snapshot(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No space left"):
        write(tmp_path / "snapshot.arrow", 1)
    assert names_in(tmp_path) == []


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="can't be written"):
        write(tmp_path / "gone" / "snapshot.arrow", 1)


def test_rows_that_memory_is_not_for_need_a_folder_that_can_be_written(tmp_path: Path) -> None:
    rows = SpillBuffer(tmp_path / "gone" / "x", pa.schema([("key", pa.uint64())]), held_bytes=0)
    keys = [np.array([key], np.uint64) for key in range(9)]
    with rows, pytest.raises(StateError, match="can't be written"):
        list(map(rows.add, keys))


# --- reading what isn't a snapshot -----------------------------------------------------------------------


def test_there_is_no_snapshot_before_the_first_run(tmp_path: Path) -> None:
    assert Snapshot.open(tmp_path / "snapshot.arrow") is None


@pytest.mark.parametrize("damage", ["empty", "cut", "rubbish", "other"])
def test_a_damaged_snapshot_is_named_with_a_remedy(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path / "snapshot.arrow", 1)
    data = path.read_bytes()
    other = pa.BufferOutputStream()
    with pa.ipc.new_file(other, pa.schema([("key", pa.uint64())])):
        pass
    made = {"empty": b"", "cut": data[:-9], "rubbish": b"rubbish", "other": other.getvalue().to_pybytes()}
    path.write_bytes(made[damage])
    with pytest.raises(StaleCheckpointError, match="is damaged") as caught:
        Snapshot.open(path)
    assert str(path) in caught.value.message
    assert "delete the file" in str(caught.value.hint)


def test_a_snapshot_in_disorder_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "snapshot.arrow", 1)
    with pa.ipc.open_file(path) as reader:
        rows, schema = reader.get_batch(0), reader.schema
    with pa.ipc.new_file(path, schema) as writer:
        writer.write_batch(rows.slice(1))
        writer.write_batch(rows.slice(0, 1))
    with pytest.raises(StaleCheckpointError, match="out of order"):
        Snapshot.open(path)


@settings(max_examples=examples(40, 15))
@given(st.data())
def test_whatever_is_overwritten_a_snapshot_opens_or_is_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "snapshot.arrow"), 1)
        bytes_ = bytearray(path.read_bytes())
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes_)
        try:
            with opened(path) as snapshot:
                snapshot.find(np.array([1, 2, 3], dtype=np.uint64))
        except StaleCheckpointError:
            pass


@each_row(
    ("said", "message", "hint"),
    [
        ({"version": 3}, "was written by a newer propsync", "update propsync, or delete the file"),
        ({"hashing": 3}, "was written by a newer propsync", "update propsync, or delete the file"),
        ({"version": 1}, "was written by an older propsync", "delete the file"),
        ({"hashing": 1}, "was written by an older propsync", "delete the file"),
        ({"hashing": None}, "was written by an older propsync", "delete the file"),
        ({"kind": "list of ids"}, "is not a snapshot of propsync, but a list of ids", "delete the file"),
    ],
)
def test_a_file_of_another_version_or_kind_is_refused_with_a_remedy(
    tmp_path: Path, said: dict[str, Any], message: str, hint: str
) -> None:
    path = write(tmp_path / "snapshot.arrow", 1)
    with pa.ipc.open_file(path) as reader:
        rows, schema = reader.read_all(), reader.schema
    metadata = json.loads(schema.metadata[b"propsync"]) | said
    metadata = {name: value for name, value in metadata.items() if value is not None}
    with pa.ipc.new_file(path, schema.with_metadata({b"propsync": json.dumps(metadata)})) as writer:
        writer.write_table(rows)
    for look in (Snapshot.open, look_at_snapshot):
        with pytest.raises(StaleCheckpointError) as caught:
            look(path)
        assert caught.value.message == f"{path} {message}"
        assert caught.value.hint == f"{hint}; the next run then sends everyone, and writes it anew"
