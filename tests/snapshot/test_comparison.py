"""Rows of a device alone count for the user to whom it was linked first."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from etl.job.spec import Job
from etl.mapper import Mapper
from etl.model import Mapped
from etl.snapshot import (
    DeviceLinks,
    DiffedBatch,
    Differ,
    FieldGroup,
    FinalChanges,
    Layout,
    Snapshot,
    SnapshotWriter,
    comparison,
    device_owners,
)
from etl.snapshot.spill_buffer import SpillBuffer
from etl.subject import user_keys
from tests.examples import examples
from tests.snapshot.builders import (
    Row,
    batch_of,
    differ_for,
    few_keys,
    header,
    job_of,
    keyed_by,
    layout_for,
    mapped_of,
    opened,
    opened_if_any,
    renewed,
    sent_by,
)
from tests.snapshot.profiles import Profiles
from tests.snapshot.test_diff import EXPORTS, JOBS, SCHEMA, in_full, taken, user, without

LAYOUT = Layout("property", (FieldGroup("a", (("a",),)),), paired=True)


def pairs(*rows: tuple[int, int]) -> NDArray[np.uint64]:
    return np.array(rows, dtype=np.uint64).reshape(-1, 2)


def user_alone(user: int) -> tuple[int, int]:
    """A row without a device has a key there that no device has."""
    return user, 2**64 - 1 - user


def write(path: Path, keys: NDArray[np.uint64]) -> None:
    with SnapshotWriter(path, LAYOUT, header()) as fresh:
        fresh.add(keys, np.ones((len(keys), 2), dtype=np.uint32))
        assert fresh.finish() == len(np.unique(keys[keys < 100]))


def test_a_device_that_the_snapshot_knows_keeps_its_first_user(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.arrow"
    write(path, pairs((1, 11), (2, 11), (3, 3), user_alone(4)))
    rows = pairs((11, 11), (3, 3), (2, 11), user_alone(11))
    with opened(path) as old:
        assert device_owners(rows, old).tolist() == [1]
        links = DeviceLinks(old)
        links.collect(rows)
        assert links.resolve(rows)[:, 0].tolist() == [1, 3, 2, 11]


@pytest.mark.parametrize("most", [0, 10])
def test_a_device_that_is_linked_in_this_run_counts_for_its_user_from_then_on(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(comparison, "_MOST_LINKS", most)
    links = DeviceLinks(None)
    first, second = pairs((11, 11), (12, 12)), pairs((1, 11), (2, 11), (11, 11), (12, 12))
    for rows in (second, first):
        links.collect(rows)
    assert links.resolve(first)[:, 0].tolist() == [11, 12]
    assert links.resolve(second)[:, 0].tolist() == ([1, 2, 1, 12] if most else [1, 2, 11, 12])


def test_without_a_row_of_a_device_alone_nothing_is_remembered() -> None:
    links = DeviceLinks(None)
    for rows in (pairs((1, 11)), np.array([[1]], dtype=np.uint64)):
        links.collect(rows)
        assert links.resolve(rows) is rows


REPEATABLE = {name: job for name, job in JOBS.items() if "increments" not in name} | {
    "ignoring": job_of(
        {"user_id": "id", "user_properties": {"$set": {"plan": "plan", "seen": "seen"}}},
        changes={"ignore": ["seen"]},
    ),
    "user, ignoring": job_of(
        {"user_id": "id", "user_properties": {"$set": {"plan": "plan", "seen": "seen"}}},
        changes={"by": "user", "ignore": ["seen"]},
    ),
    "lists": job_of({"user_id": "id", "user_properties": {"$postInsert": {"tags": "tags", "more": "plan"}}}),
    "paired lists": job_of(
        {"user_id": "id", "device_id": "device", "user_properties": {"$postInsert": {"tags": "tags"}}}
    ),
}
NAMES = st.sampled_from(sorted(REPEATABLE))
ENDS = st.lists(st.integers(0, 8), max_size=3)


def looked(job: Job, snapshot: Snapshot | None, batches: Sequence[Mapped], path: Path) -> Differ:
    """What compares these batches, once all of them were looked through."""
    if snapshot is None:
        return differ_for(job, None)
    with FinalChanges(snapshot, layout_for(job), path) as final:
        for compared in differ_for(job, snapshot).each(batches):
            assert compared.seen is not None
            assert compared.ids is not None
            final.add(compared.seen, compared.ids)
        final.finish()
    return differ_for(job, snapshot, final=final)


def night(
    job: Job, rows: Sequence[Row], path: Path, number: int, ends: Sequence[int] = ()
) -> list[DiffedBatch]:
    """What goes of an export; all of it is accepted."""
    with tempfile.TemporaryDirectory() as folder, opened_if_any(path) as snapshot:
        batches = mapped_of(job, rows, SCHEMA, ends)
        compared = list(looked(job, snapshot, batches, Path(folder, "x")).each(batches))
    renewed(path, job, compared, number=number)
    return compared


@settings(max_examples=examples(120, 10))
@given(
    held=st.sampled_from([0, 10**6]),
    name=NAMES,
    exports=st.lists(EXPORTS, min_size=1, max_size=4),
    ends=ENDS,
    again=ENDS,
)
def test_the_same_export_again_sends_nothing_whatever_came_before(
    held: int, name: str, exports: list[list[Row]], ends: list[int], again: list[int]
) -> None:
    job = REPEATABLE[name]
    changed, full = Profiles(), Profiles()
    ignoring = {"seen"} if job.changes.ignore else set()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpillBuffer.__init__, "__kwdefaults__", {"held_bytes": held})
        path = Path(folder, "snapshot.arrow")
        for number, export in enumerate(exports, start=1):
            compared = night(job, export, path, number, ends)
            changed.take(own for _, own in taken(compared))
            full.take(own for _, own in in_full(job, export))
            assert without(changed.users, ignoring) == without(full.users, ignoring)
            assert changed.owners == full.owners
            assert taken(night(job, export, path, number, again)) == []


@settings(max_examples=examples(60, 8))
@given(
    name=NAMES, night_before=EXPORTS, export=EXPORTS, ends=ENDS, cut=st.integers(0, 8), again=st.booleans()
)
def test_what_goes_depends_neither_on_batches_nor_on_where_a_run_was_resumed(
    name: str,
    night_before: list[Row],
    export: list[Row],
    ends: list[int],
    cut: int,
    again: bool,
    tmp_path_factory: Any,
) -> None:
    job = REPEATABLE[name]
    path = tmp_path_factory.mktemp("state") / "snapshot.arrow"
    renewed(path, job, differ_for(job, None).each(mapped_of(job, night_before, SCHEMA)))
    with opened(path) as snapshot:
        one = mapped_of(job, export, SCHEMA)
        whole = list(looked(job, snapshot, one, path).each(one))
        batches = mapped_of(job, export, SCHEMA, [*ends, cut])
        before = [batch for batch in batches if batch.batch.stop <= cut + 1]
        first, other = looked(job, snapshot, batches, path), looked(job, snapshot, batches, path)
        sent = list(first.each(before))
        for some in sent:
            other.mark(user_keys(some.mapped.identifications))
        later = list(other.each(batches[len(before) :]))
        assert taken([*sent, *later]) == taken(whole)
        fingerprints = [row for some in (*sent, *later) for row in fingerprints_of(some)]
        assert fingerprints == [row for some in whole for row in fingerprints_of(some)]


def fingerprints_of(compared: DiffedBatch) -> list[list[int]]:
    assert compared.mapped.fingerprints is not None
    found: list[list[int]] = compared.mapped.fingerprints.tolist()
    return found


@settings(max_examples=examples(60, 8))
@given(
    name=NAMES, exports=st.lists(EXPORTS, min_size=2, max_size=4), count=st.sampled_from([1, 2]), ends=ENDS
)
def test_users_with_one_key_never_have_the_last_word_on_each_other(
    name: str, exports: list[list[Row]], count: int, ends: list[int]
) -> None:
    job = REPEATABLE[name]
    changed, full = Profiles(), Profiles()
    ignoring = {"seen"} if job.changes.ignore else set()
    keys = few_keys(count)
    with tempfile.TemporaryDirectory() as folder, keyed_by(keys):
        path = Path(folder, "snapshot.arrow")
        for number, export in enumerate(exports, start=1):
            batches = mapped_of(job, export, SCHEMA, ends)
            with opened_if_any(path) as snapshot:
                compared = list(looked(job, snapshot, batches, path).each(batches))
            renewed(path, job, compared, number=number, keys=keys)
            changed.take(own for _, own in taken(compared))
            full.take(own for _, own in in_full(job, export))
            assert without(changed.users, ignoring) == without(full.users, ignoring)
            assert changed.owners == full.owners


# --- one rule at a time ----------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.arrow"


def sends(job: Job, rows: Sequence[Row], path: Path, number: int = 2) -> list[int]:
    """The numbers of the rows that go."""
    return [number for some in night(job, rows, path, number) for number, _ in sent_by(some)]


@pytest.mark.parametrize("name", ["property", "user", "cleared"])
def test_a_detour_is_no_change(path: Path, name: str) -> None:
    job = REPEATABLE[name]
    assert sends(job, [user(plan="a"), user(plan="b")], path, 1) == [1, 2]
    for number in (2, 3, 4):
        assert sends(job, [user(plan="a"), user(plan="b")], path, number) == []


def test_a_property_that_ends_as_it_was_stays_out_of_the_rows_that_go(path: Path) -> None:
    job = REPEATABLE["property"]
    night(job, [user(plan="b", lang="x")], path, 1)
    compared = night(job, [user(plan="a", lang="x"), user(plan="b", lang="y")], path, 2)
    assert taken(compared) == [(2, {"user_id": "user-1", "language": "y"})]


def test_an_insert_is_not_undone_by_the_next_one(path: Path) -> None:
    job = REPEATABLE["lists"]
    night(job, [user(plan=None, tags=["y"])], path, 1)
    rows = [user(plan=None, tags=["x"]), user(plan=None, tags=["y"])]
    assert sends(job, rows, path) == [1, 2]
    assert sends(job, rows, path, 3) == []
    assert sends(job, rows[::-1], path, 4) == [1, 2]
    assert sends(job, rows[:1], path, 5) == [1]


def test_by_user_rows_with_other_columns_are_laid_over_each_other(path: Path) -> None:
    job = job_of({"user_id": "id", "user_properties": {"plan": "plan", "seats": "seats"}}, changes="user")
    two = [user(plan="a", seats=None), user(plan=None, seats=2)]
    assert sends(job, two, path, 1) == [1, 2]
    assert sends(job, two, path, 2) == []
    # The last row is as before, and the first isn't: both go, or the next night had to send one again.
    other = [user(plan="b", seats=None), user(plan=None, seats=2)]
    assert sends(job, other, path, 3) == [1, 2]
    assert sends(job, other, path, 4) == []
    # The first is as before, and a third comes.
    more = [*other, user(plan=None, seats=3)]
    assert sends(job, more, path, 5) == [1, 2, 3]
    assert sends(job, more, path, 6) == []


def test_a_row_that_follows_its_equal_says_nothing(path: Path) -> None:
    job = REPEATABLE["user"]
    assert sends(job, [user(), user()], path, 1) == [1, 2]
    assert sends(job, [user()], path, 2) == []
    assert sends(job, [user(), user(), user()], path, 3) == []


def test_a_device_that_goes_back_and_forth_is_no_change(path: Path) -> None:
    for name in ("paired", "paired user"):
        job = REPEATABLE[name]
        rows = [user(1, device="device-1"), user(2, device="device-1"), user(1, device="device-2")]
        path.unlink(missing_ok=True)
        assert sends(job, rows, path, 1) == [1, 2, 3]
        assert sends(job, rows, path, 2) == []
        # The device is with its first user now, and stays there.
        assert sends(job, [*rows, user(1, device="device-1")], path, 3) != []
        assert sends(job, [*rows, user(1, device="device-1")], path, 4) == []


def test_a_row_that_was_overtaken_is_a_reject_though_the_user_ends_as_they_began(path: Path) -> None:
    job = REPEATABLE["property"]
    night(job, [user()], path, 5)
    mapped = [Mapper(job.identification).map(batch_of([user(plan="b"), user()], SCHEMA, runs=[1, 1]))]
    with opened(path) as snapshot:
        (compared,) = looked(job, snapshot, mapped, path).each(mapped)
    assert [reject.code for reject in compared.mapped.rejects] == ["superseded"]
    assert not len(compared.mapped.kept)


def test_users_are_counted_by_what_they_end_as(path: Path) -> None:
    job = REPEATABLE["property"]
    night(job, [user(1), user(2), user(3)], path, 1)
    rows = [user(1, plan="b"), user(2, plan="b"), user(1), user(3, plan="b"), user(3, plan="c"), user(9)]
    with opened(path) as snapshot, FinalChanges(snapshot, layout_for(job), path) as final:
        for compared in differ_for(job, snapshot).each(mapped_of(job, rows, SCHEMA, [2, 4])):
            assert compared.seen is not None
            assert compared.ids is not None
            final.add(compared.seen, compared.ids)
        final.finish()
        assert final.changed() == 2
