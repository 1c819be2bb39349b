"""Who left, and by which id."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import StaleCheckpointError
from etl.snapshot import KnownIds, KnownIdsWriter, SeenUsers, sorted_file
from etl.snapshot.spill_buffer import SpillBuffer
from etl.subject import user_keys
from tests.examples import examples
from tests.snapshot.builders import differ_for, header, job_of, mapped_of, opened, renewed

Pair = tuple[str | None, str | None]

SCHEMA = pa.schema([("user_id", pa.string()), ("device_id", pa.string())])
USERS = [f"user-{n}" for n in range(6)]
DEVICES = [f"device-{n}" for n in range(4)]
PAIRS = st.tuples(st.none() | st.sampled_from(USERS), st.none() | st.sampled_from(DEVICES)).filter(any)
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
