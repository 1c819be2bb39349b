"""Users in flight are known after a process died at any point, and forgotten as soon as they aren't."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.checkpoint import in_flight_file
from etl.checkpoint.in_flight_file import InFlightContents, InFlightFile, RunMark, read_in_flight
from etl.errors import StaleCheckpointError, StateError
from etl.model import Chunk
from tests.examples import each_row, examples

MARK = RunMark(run_id="one", number=3, source="s", endpoint="https://here", counts=True)
WIDTH = 2


def chunk(number: int, users: int = 3, *, offset: int = 0) -> Chunk:
    """Rows of a file of which no two chunks have a user in common."""
    keys = np.arange(WIDTH * users, dtype=np.uint64).reshape(-1, WIDTH) + np.uint64(1000 * number + offset)
    nothing = np.empty(0, np.int64)
    rows = pa.RecordBatch.from_arrays([], names=[])
    return Chunk("f", 0, 10 * number + 1, 10 * number + 11, (), nothing, keys, nothing, nothing, rows)


def begin(path: Path, **others: object) -> InFlightFile:
    return InFlightFile(path, MARK, users=8, **others)  # type: ignore[arg-type]


def dead(opened: InFlightFile) -> None:
    """The process is gone: nobody tidied up."""
    os.close(opened._file)


def left(path: Path) -> InFlightContents:
    return read_in_flight(path) or pytest.fail("there is none")


def named(path: Path) -> dict[int, list[int]]:
    """The users in flight, by the first row of their chunk."""
    found: dict[int, list[int]] = {}
    for flight in left(path).flights:
        found.setdefault(flight.first, []).extend(sorted(flight.keys.ravel().tolist()))
    return found


def keys_of(part: Chunk) -> list[int]:
    return sorted(part.keys.ravel().tolist())


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "refused", "lost", "commit"]), st.integers(0, 5)), max_size=40
    ),
    st.booleans(),
)
def test_whoever_was_sent_something_is_named_until_it_is_committed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], killed: bool
) -> None:
    path = tmp_path_factory.mktemp("state") / "in_flight"
    opened, commits = begin(path), 0
    under_way: dict[int, int] = {}
    sent, doubtful, done = set[int](), set[int](), set[int]()
    for step, number in steps:
        part = chunk(number)
        if step == "send" and number not in done:  # what is committed isn't sent again
            opened.began(part)
            under_way[number] = under_way.get(number, 0) + 1
            sent.add(number)
        elif step == "commit" and not under_way.get(number):
            commits += 1
            opened.committed(part, commits)
            done.add(number)
            sent.discard(number)
            doubtful.discard(number)
        elif step in {"refused", "lost"} and under_way.get(number):
            opened.ended(part, arrived=step == "lost")
            under_way[number] -= 1
            doubtful |= {number} if step == "lost" else set()
    if killed:
        dead(opened)
        expected = sent
    else:
        opened.__exit__(None, None, None)
        # A refusal is not a doubt: what was only ever refused is not under way any more.
        expected = doubtful | {number for number, count in under_way.items() if count}
    assert not left(path).mark.unknown
    assert left(path).mark == MARK
    assert left(path).commits == commits
    got = named(path)
    assert {n: keys_of(chunk(n)) for n in expected} == {n: got[10 * n + 1] for n in expected}
    # A slot whose chunk is committed may still name it; nothing else does.
    assert {(first - 1) // 10 for first in got} - expected <= {n for s, n in steps if s == "commit"}


def test_a_part_of_a_chunk_is_named_once_and_a_further_one_too(tmp_path: Path) -> None:
    path = tmp_path / "in_flight"
    opened = begin(path)
    for offset in (0, 0, 100):
        opened.began(chunk(1, offset=offset))
    dead(opened)
    assert len(left(path).flights) == 2
    assert named(path)[11] == sorted(keys_of(chunk(1)) + keys_of(chunk(1, offset=100)))


def test_slots_are_used_again(tmp_path: Path) -> None:
    path = tmp_path / "in_flight"
    opened = begin(path)
    for number in range(500):
        opened.began(chunk(number))
        opened.ended(chunk(number), arrived=True)
        opened.committed(chunk(number), number)
    assert path.stat().st_size < 10_000
    dead(opened)


@each_row("seed", range(20))
def test_a_slot_that_is_half_written_was_never_sent(tmp_path: Path, seed: int) -> None:
    path, chance = tmp_path / "in_flight", random.Random(seed)
    opened = begin(path)
    opened.began(chunk(1))
    whole = path.read_bytes()
    opened.began(chunk(2, users=8))
    dead(opened)
    content = path.read_bytes()
    cut = chance.randrange(len(whole), len(content))
    path.write_bytes(content[:cut])
    assert set(named(path)) == {11}


def test_after_a_power_cut_nobody_knows_unless_it_had_been_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in_flight"
    monkeypatch.setattr(in_flight_file, "_boot_id", lambda: "first boot")
    mark = RunMark(run_id="one", number=1, source="s", boot="first boot")
    opened = InFlightFile(path, mark, users=8)
    opened.began(chunk(1))
    assert not left(path).mark.unknown
    monkeypatch.setattr(in_flight_file, "_boot_id", lambda: "second boot")
    assert left(path).mark.unknown
    opened.__exit__(None, None, None)
    assert not left(path).mark.unknown
    assert set(named(path)) == {11}  # no answer came


def test_what_is_kept_stays_named_until_it_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "in_flight"
    opened = begin(path)
    opened.began(chunk(1))
    dead(opened)
    again = begin(path, kept=left(path).flights, commits=7)
    assert left(path).commits == 7
    again.began(chunk(2))
    assert set(named(path)) == {11, 21}
    again.committed(chunk(1), 8)
    again.began(chunk(3))
    dead(again)
    assert set(named(path)) == {21, 31}


@pytest.mark.parametrize("content", [b"", b"rubbish" * 1000, b"\0" * 9000])
def test_rubbish_names_nobody_and_is_known_to_be_rubbish(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in_flight"
    assert read_in_flight(path) is None
    path.write_bytes(content)
    assert read_in_flight(path) is None


def test_it_is_for_its_owner_only_and_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with begin(tmp_path / "in_flight"):
        assert (tmp_path / "in_flight").stat().st_mode & 0o777 == 0o600
    with pytest.raises(StateError):
        begin(tmp_path / "gone" / "in_flight")


def test_of_a_chunk_that_is_committed_in_parts_the_others_stay_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "in_flight"
    whole = chunk(1)
    opened = begin(path)
    opened.began(whole)
    opened.ended(whole, arrived=False)
    part = replace(whole, keys=whole.keys[:2])
    opened.began(part)
    opened.ended(part, arrived=True)
    opened.committed(replace(part, held=np.array([11, 12])), 1)
    assert named(path) == {11: keys_of(replace(whole, keys=whole.keys[2:]))}
    opened.committed(replace(whole, keys=whole.keys[2:], again=True), 2)
    assert named(path) == {}
    dead(opened)


def test_of_whom_an_earlier_process_sent_only_those_are_left_who_are_not_committed(tmp_path: Path) -> None:
    path = tmp_path / "in_flight"
    whole = chunk(1)
    first = begin(path)
    first.began(whole)
    dead(first)
    left = read_in_flight(path)
    assert left is not None
    opened = begin(path, kept=left.flights)
    rest = replace(whole, keys=whole.keys[2:])
    assert opened.inherited(whole)
    opened.committed(replace(whole, keys=whole.keys[:2], held=np.array([11, 12])), 1)
    assert not opened.inherited(replace(whole, keys=whole.keys[:2]))
    assert opened.inherited(rest)
    dead(opened)


def test_a_finished_run_has_nobody_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "in_flight"
    with begin(path) as opened:
        opened.began(chunk(1))
        opened.ended(chunk(1), arrived=True)
        opened.finished()
    assert left(path).finished


def test_a_file_that_can_not_be_read_or_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StaleCheckpointError, match="can't be read"):
        read_in_flight(tmp_path / "folder")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with begin(tmp_path / "in_flight") as opened, monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StateError, match="No space left"):
            opened.began(chunk(1))
