"""What is found in a snapshot is what was written, wherever it stands; and who left, and by which id."""

from __future__ import annotations

import mmap
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import StaleCheckpointError
from etl.snapshot import (
    FieldGroup,
    KnownIds,
    KnownIdsWriter,
    Layout,
    SeenUsers,
    Snapshot,
    SnapshotWriter,
    sorted_file,
)
from etl.snapshot.spill_buffer import SpillBuffer
from etl.subject import user_keys
from tests.examples import examples
from tests.snapshot.builders import differ_for, header, job_of, mapped_of, opened, renewed

N = 3000
LAYOUT = Layout("property", tuple(FieldGroup(name, ((name,),), ignored=name == "c") for name in "abc"))
BY_USER = Layout("user", LAYOUT.bundles)


def keys_of(numbers: Any) -> Any:
    """Keys all over, the lowest and the highest among them."""
    keys = np.asarray(numbers, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.where(np.asarray(numbers) == 1, np.uint64(2**64 - 1), keys)


def fingerprints_of(numbers: Any, layout: Layout) -> Any:
    columns = np.arange(1, len(layout.names) + 1)
    return (np.asarray(numbers)[:, None] * 10 + columns).astype(layout.dtype)


def write(folder: Path, layout: Layout) -> Path:
    """A snapshot of the users 0 to N - 1, of which the last 100 came with a second run."""
    path = folder / f"{layout.mode}.arrow"
    for number, users in ((1, np.arange(N)), (2, np.arange(N - 100, N))):
        old = Snapshot.open(path)
        with SnapshotWriter(path, layout, header(number), old=old) as fresh:
            fresh.add(keys_of(users).reshape(-1, 1), fingerprints_of(users, layout))
            fresh.finish()
    return path


@pytest.fixture(scope="module", params=[LAYOUT, BY_USER], ids=["property", "user"])
def snapshot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_file, "PARTITION_BYTES", 10_000)
        # So that pages are given back all the time.
        patch.setattr(sorted_file, "_MAPPED_BYTES", 1)
        # So that some values are read, and some looked at in memory.
        patch.setattr(sorted_file, "_PIECE", 400)
        with opened(write(tmp_path_factory.mktemp("state"), request.param)) as found:
            yield found


def layout_of(snapshot: Snapshot) -> Layout:
    return LAYOUT if snapshot.mode == "property" else BY_USER


USERS = st.lists(st.integers(0, 2 * N), max_size=50)


@given(users=USERS)
def test_who_is_known_is_found_and_nobody_else(snapshot: Snapshot, users: list[int]) -> None:
    positions = snapshot.find(keys_of(users))
    assert (positions >= 0).tolist() == [user < N for user in users]
    everyone = np.sort(keys_of(np.arange(N)))
    assert [int(everyone[position]) for position in positions if position >= 0] == [
        int(keys_of(user)) for user in users if user < N
    ]


@given(users=USERS, changed=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2), st.integers(0, 1))))
def test_prints_are_compared_one_by_one(snapshot: Snapshot, users: list[int], changed: Any) -> None:
    layout = layout_of(snapshot)
    fingerprints = fingerprints_of(np.array(users, dtype=np.int64), layout)
    for row, column, value in changed:
        if row < len(users) and column < len(layout.names):
            fingerprints[row, column] = value
    positions, differs, same = snapshot.look_up(keys_of(users), fingerprints, layout)
    assert positions.tolist() == snapshot.find(keys_of(users)).tolist()
    stored = fingerprints_of(np.array(users, dtype=np.int64), layout)
    for row, user in enumerate(users):
        given = fingerprints[row] != 0
        truth = given & ((fingerprints[row] != stored[row]) | (user >= N))
        assert not same[row] or (user < N and not truth[layout.counted].any())
        # In a row that is the same, what is ignored counts as equal.
        assert differs[row].tolist() == (truth & ~same[row]).tolist()


NEAR = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=60)


@given(known=NEAR, asked=NEAR)
def test_keys_with_the_same_high_bits_are_found_on_both_sides_of_a_border(
    tmp_path_factory: pytest.TempPathFactory, known: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("near") / "snapshot.arrow"
    keys, needles = (
        np.array([(high << 56) + low for high, low in some], np.uint64) for some in (known, asked)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_file, "PARTITION_BYTES", 1)
        with SnapshotWriter(path, BY_USER, header(1)) as fresh:
            fresh.add(keys.reshape(-1, 1), np.ones((len(keys), 1), np.uint64))
            fresh.finish()
    with opened(path) as snapshot:
        positions, _, _ = snapshot.look_up(needles, np.ones((len(needles), 1), np.uint64), BY_USER)
        assert (positions >= 0).tolist() == np.isin(needles, keys).tolist()
        assert positions.tolist() == snapshot.find(needles).tolist()


def test_an_unknown_user_is_never_the_same_however_little_is_given(snapshot: Snapshot) -> None:
    layout = layout_of(snapshot)
    nothing = np.zeros((2, len(layout.names)), dtype=layout.dtype)
    _, differs, same = snapshot.look_up(keys_of([2, 2 * N]), nothing, layout)
    assert same.tolist() == [True, False]
    assert not differs.any()


def test_runs_are_those_that_had_a_user_accepted_last(snapshot: Snapshot) -> None:
    users = [0, N - 101, N - 100, N - 1, N + 5]
    assert snapshot.runs(snapshot.find(keys_of(users))).tolist() == [1, 1, 2, 2, -1]


def test_a_column_that_the_snapshot_lacks_is_never_equal_and_others_are_still_compared(
    tmp_path: Path,
) -> None:
    wider = Layout("property", (FieldGroup("d", (("d",),)), *LAYOUT.bundles[::-1]))
    with opened(write(tmp_path, LAYOUT)) as snapshot:
        users = np.arange(20)
        fingerprints = np.concatenate(
            [np.ones((20, 1)), fingerprints_of(users, LAYOUT)[:, ::-1]], axis=1
        ).astype("<u4")
        fingerprints[3, 2] = 1
        _, differs, _ = snapshot.look_up(keys_of(users), fingerprints, wider)
    wanted = np.zeros((20, 4), dtype=bool)
    wanted[:, 0] = wanted[3, 2] = True
    assert differs.tolist() == wanted.tolist()


def test_all_keys_come_in_order_with_their_positions(snapshot: Snapshot) -> None:
    for part in snapshot.pieces():
        assert snapshot.find(part.keys).tolist() == list(range(part.first, part.first + len(part)))
    assert len(snapshot) == N


def test_a_closed_snapshot_lets_go_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped: list[Any] = []
    real = mmap.mmap

    def keep(*args: Any, **others: Any) -> Any:
        mapped.append(real(*args, **others))
        return mapped[-1]

    monkeypatch.setattr("etl.snapshot.sorted_file.mmap.mmap", keep)
    snapshot = opened(write(tmp_path, LAYOUT))
    snapshot.find(keys_of([1, 2]))
    snapshot.close()
    mapped[-1].close()  # fails while anybody looks into it


# --- ids -------------------------------------------------------------------------------------------------

Pair = tuple[str | None, str | None]

SCHEMA = pa.schema([("user_id", pa.string()), ("device_id", pa.string())])
NAMES = [f"user-{n}" for n in range(6)]
DEVICES = [f"device-{n}" for n in range(4)]
PAIRS = st.tuples(st.none() | st.sampled_from(NAMES), st.none() | st.sampled_from(DEVICES)).filter(any)
JOB = job_of({"user_id": "user_id", "device_id": "device_id", "user_properties": {"plan": {"value": "a"}}})


def rows_of(pairs: list[Pair]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"user_id": u, "device_id": d} for u, d in pairs], SCHEMA)


def recorded(folder: Path, pairs: list[Pair], gone: list[Pair], number: int = 1) -> int:
    """Add to the ids in the folder."""
    path = folder / "ids.arrow"
    with KnownIds.open(path) or nullcontext() as old, KnownIdsWriter(path, header(number), old=old) as fresh:
        for pair in pairs:
            fresh.add(rows_of([pair]))
        if gone:
            fresh.forget(user_keys(rows_of(gone))[:, 0])
        return fresh.finish()


def accepted(folder: Path, pairs: list[Pair]) -> None:
    rows = [{"user_id": u, "device_id": d} for u, d in pairs]
    compared = list(differ_for(JOB, None).each(mapped_of(JOB, rows, SCHEMA)))
    renewed(folder / "snapshot.arrow", JOB, compared)


def left(folder: Path, present: list[Pair]) -> set[Pair]:
    with (
        opened(folder / "snapshot.arrow") as snapshot,
        KnownIds.open(folder / "ids.arrow") or nullcontext() as known,
    ):
        assert known is not None
        presence = SeenUsers(snapshot)
        presence.see(user_keys(rows_of(present)))
        found = list(presence.absent(known))
    rows = [row for absent in found for row in absent.to_pylist()]
    assert len(rows) == len({tuple(row.values()) for row in rows})
    return {(row["user_id"], row["device_id"]) for row in rows}


def alone(pair: Pair) -> Pair:
    return (pair[0], None) if pair[0] is not None else pair


@settings(max_examples=examples(20, 10))
@given(
    nights=st.lists(st.lists(PAIRS, max_size=8), min_size=1, max_size=3),
    present=st.lists(PAIRS, max_size=6),
    small=st.booleans(),
)
def test_who_was_there_and_is_not_any_more_has_left(nights: Any, present: Any, small: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if small:
            patch.setattr(sorted_file, "PARTITION_BYTES", 200)
            patch.setattr(SpillBuffer.__init__, "__kwdefaults__", {"held_bytes": 0})
        for number, night in enumerate(nights, start=1):
            accepted(folder, night)
            recorded(folder, night, [], number)
        everyone = [pair for night in nights for pair in night]
        # Whose a device was first, it stays.
        owners = {device: user for user, device in reversed(everyone) if user and device}
        here = {alone(pair) for pair in present} | {(None, device) for _, device in present}
        here |= {(owners[device], None) for user, device in present if not user and device in owners}
        here |= {(None, device) for device, user in owners.items() if (user, None) in here}
        assert left(folder, present) == {alone(pair) for pair in everyone} - here


def test_who_is_forgotten_is_not_known_any_more(tmp_path: Path) -> None:
    pairs: list[Pair] = [("user-1", None), ("user-2", "device-2"), (None, "device-3")]
    accepted(tmp_path, pairs)
    assert recorded(tmp_path, pairs, []) == 3
    assert recorded(tmp_path, [("user-1", None)], [("user-2", "device-2")]) == 2
    assert left(tmp_path, []) == {("user-1", None), (None, "device-3")}


def test_a_night_without_anybody_new_writes_nothing(tmp_path: Path) -> None:
    recorded(tmp_path, [("user-1", None)], [])
    before = (tmp_path / "ids.arrow").stat().st_ino
    assert recorded(tmp_path, [("user-1", "device-1")], [], 2) == 1
    assert (tmp_path / "ids.arrow").stat().st_ino == before


def test_a_user_who_was_accepted_before_ids_were_kept_never_counts_as_left(tmp_path: Path) -> None:
    accepted(tmp_path, [("user-1", None), ("user-2", None)])
    recorded(tmp_path, [("user-2", None)], [])
    assert left(tmp_path, []) == {("user-2", None)}


def test_a_snapshot_is_no_list_of_ids(tmp_path: Path) -> None:
    accepted(tmp_path, [("user-1", None)])
    with pytest.raises(StaleCheckpointError, match="but a snapshot"):
        KnownIds.open(tmp_path / "snapshot.arrow")
    assert KnownIds.open(tmp_path / "ids.arrow") is None
