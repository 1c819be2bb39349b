"""What is left out is never missed: the profiles end as if every row had been sent in full."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.job.spec import Job
from etl.mapper import Mapper
from etl.snapshot import DiffedBatch, Snapshot, diff
from etl.snapshot.diff import later_rows
from etl.subject import user_keys
from tests.examples import examples
from tests.snapshot.builders import (
    Row,
    batch_of,
    differ_for,
    few_keys,
    job_of,
    keyed_by,
    mapped_of,
    opened,
    renewed,
    sent_by,
)
from tests.snapshot.profiles import Profiles

PLACE = ("country", "region", "city", "dma")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("device", pa.string()),
        *(
            (name, pa.string())
            for name in ("plan", "first", "seen", "lang", "company", "raw", "country", "city")
        ),
        ("seats", pa.int64()),
        ("orders", pa.int64()),
        ("tags", pa.list_(pa.string())),
    ]
)
PROPERTIES = {
    "$set": {
        "plan": "plan",
        "seats": {"column": "seats", "null": "unset"},
        "seen": "seen",
        "raw": {"column": "raw", "type": "json"},
    },
    "$setOnce": {"first": "first"},
    "$postInsert": {"tags": "tags"},
}
FIELDS = {
    "language": "lang",
    "country": "country",
    "city": "city",
    "region": {"value": "north"},
    "dma": {"value": "501"},
    "groups": {"company": "company"},
}
WHOLE = {"user_id": "id", **FIELDS, "user_properties": PROPERTIES}
INCREMENTS = {"$add": {"orders": "orders"}, "$append": {"log": "tags"}}
JOBS = {
    "property": job_of(WHOLE),
    "increments": job_of({"user_id": "id", "user_properties": {"$set": {"plan": "plan"}, **INCREMENTS}}),
    "ignoring increments": job_of(
        {"user_id": "id", "user_properties": {"$set": {"plan": "plan", "seen": "seen"}, **INCREMENTS}},
        changes={"ignore": ["seen"]},
    ),
    "user": job_of(WHOLE, changes="user"),
    "paired": job_of({"device_id": "device", **WHOLE}),
    "paired user": job_of({"device_id": "device", **WHOLE}, changes="user"),
    "cleared": job_of(
        {"user_id": "id", "language": "lang", "user_properties": {"$clearAll": True, **PROPERTIES}}
    ),
    "devices": job_of({"device_id": "id", "user_properties": {"plan": "plan"}}),
}
FEW = st.none() | st.sampled_from(["a", "b"])
ROWS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["user-1", "user-2", "user-3"]),
        "device": st.none() | st.sampled_from(["device-1", "device-2"]),
        **dict.fromkeys(("plan", "first", "seen", "lang", "company", "country", "city"), FEW),
        "raw": st.none() | st.sampled_from(["5", '"5"', "[1]", '{"a":1}']),
        "seats": st.none() | st.integers(1, 2),
        "orders": st.none() | st.integers(1, 2),
        "tags": st.none() | st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2),
    }
)
EXPORTS = st.lists(ROWS, max_size=8)
NAMES = st.sampled_from(sorted(JOBS))


def in_full(job: Job, rows: Sequence[Row]) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for mapped in mapped_of(job, rows, SCHEMA):
        found += sent_by(DiffedBatch(mapped, np.empty((0, 0), bool)))
    return found


def new_rows(compared: DiffedBatch) -> list[int]:
    """The numbers of the rows that are sent because a user or a device is new."""
    assert compared.seen is not None
    assert compared.rows is not None
    numbers = compared.mapped.batch.numbers[compared.mapped.kept]
    return [int(number) for number in numbers[compared.seen.unknown[compared.rows]]]


def taken(compared: Sequence[DiffedBatch]) -> list[tuple[int, dict[str, Any]]]:
    return [row for some in compared for row in sent_by(some)]


@settings(max_examples=examples(50, 15))
@given(
    name=NAMES,
    exports=st.lists(EXPORTS, min_size=1, max_size=4),
    ends=st.lists(st.integers(0, 8), max_size=2),
    keys=st.sampled_from([user_keys, few_keys(1), few_keys(2)]),
)
def test_after_every_night_profiles_are_as_if_all_had_been_sent(
    name: str, exports: list[list[Row]], ends: list[int], keys: Any
) -> None:
    job = JOBS[name]
    ignoring = {"seen"} if job.changes.ignore else set()
    changed, full = Profiles(), Profiles()
    with tempfile.TemporaryDirectory() as folder, keyed_by(keys):
        path = Path(folder, "snapshot.arrow")
        for number, export in enumerate(exports, start=1):
            snapshot = Snapshot.open(path)
            compared = list(differ_for(job, snapshot).each(mapped_of(job, export, SCHEMA, ends)))
            changed.take(own for _, own in taken(compared))
            full.take(own for _, own in in_full(job, export))
            assert without(changed.users, ignoring) == without(full.users, ignoring)
            assert changed.owners == full.owners
            renewed(path, job, compared, number=number, keys=keys)


def without(users: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The profiles without these properties; nobody is missed of whom there is nothing else."""
    left = {f"p {name}" for name in names}
    found = {user: {n: v for n, v in own.items() if n not in left} for user, own in users.items()}
    return {user: own for user, own in found.items() if own or not names}


@settings(max_examples=examples(25, 12))
@given(name=NAMES, export=EXPORTS)
def test_a_second_night_sends_nothing_but_increments(
    name: str, export: list[Row], tmp_path_factory: Any
) -> None:
    job = JOBS[name]
    # Of a user with several rows, or a device with several users, each may be a change after the one before.
    once = list({row["id"]: row for row in export}.values())
    once = (
        list({row["device"] or n: row for n, row in enumerate(once)}.values()) if "paired" in name else once
    )
    path = tmp_path_factory.mktemp("state") / "snapshot.arrow"
    renewed(path, job, differ_for(job, None).each(mapped_of(job, once, SCHEMA)))
    with opened(path) as snapshot:
        compared = list(differ_for(job, snapshot).each(mapped_of(job, once, SCHEMA)))
    for _, own in taken(compared):
        assert set(own) == {"user_id", "user_properties"}
        assert set(own["user_properties"]) <= set(INCREMENTS)
    assert not any(some.changes.any() or new_rows(some) for some in compared)


@settings(max_examples=examples(25, 12))
@given(
    name=NAMES,
    night=EXPORTS,
    next_night=EXPORTS,
    ends=st.lists(st.integers(0, 8), max_size=3),
    cut=st.integers(0, 8),
)
def test_what_is_left_of_a_row_never_depends_on_batches_or_on_where_a_run_was_resumed(
    name: str, night: list[Row], next_night: list[Row], ends: list[int], cut: int, tmp_path_factory: Any
) -> None:
    job = JOBS[name]
    path = tmp_path_factory.mktemp("state") / "snapshot.arrow"
    renewed(path, job, differ_for(job, None).each(mapped_of(job, night, SCHEMA)))
    with opened(path) as snapshot:
        whole = taken(list(differ_for(job, snapshot).each(mapped_of(job, next_night, SCHEMA))))
        batches = mapped_of(job, next_night, SCHEMA, [*ends, cut])
        assert taken(list(differ_for(job, snapshot).each(batches))) == whole
        before, after = (
            [b for b in batches if b.batch.stop <= cut + 1],
            [b for b in batches if b.batch.stop > cut + 1],
        )
        first, again = differ_for(job, snapshot), differ_for(job, snapshot)
        sent = list(first.each(before))
        for some in sent:
            again.mark(user_keys(some.mapped.identifications))
        assert taken([*sent, *again.each(after)]) == whole


@settings(max_examples=examples(25, 8))
@given(name=NAMES, export=EXPORTS)
def test_without_a_snapshot_everything_goes(name: str, export: list[Row]) -> None:
    job = JOBS[name]
    batches = mapped_of(job, export, SCHEMA)
    assert taken(list(differ_for(job, None).each(batches))) == in_full(job, export)


# --- one rule at a time ----------------------------------------------------------------------------------


class Nights:
    """Runs of a job, each with the snapshot of the one before; everything that is sent is accepted."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "snapshot.arrow"
        self.number = 0

    def run(
        self, job: Job, rows: Sequence[Row], runs: Sequence[int] | None = None, *, full: bool = False
    ) -> Any:
        self.number += 1
        snapshot = Snapshot.open(self.path)
        mapped = Mapper(job.identification).map(batch_of(rows, SCHEMA, runs=runs))
        (compared,) = differ_for(job, None if full else snapshot).each([mapped])
        renewed(self.path, job, [compared], number=self.number)
        return compared


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path)


def user(number: int = 1, **values: Any) -> Row:
    return {
        "id": f"user-{number}",
        "plan": "a",
        "seen": "a",
        "country": "a",
        "city": "a",
        "raw": "5",
        **values,
    }


def test_only_what_changed_is_sent(nights: Nights) -> None:
    job = JOBS["property"]
    nights.run(job, [user(1), user(2), user(3)])
    compared = nights.run(job, [user(1), user(2, plan="b"), user(3, city="b", seats=3), user(4)])
    full = dict(in_full(job, [user(4)]))[1]
    assert dict(sent_by(compared)) == {
        2: {"user_id": "user-2", "user_properties": {"$set": {"plan": "b"}}},
        3: {
            "user_id": "user-3",
            "country": "a",
            "region": "north",
            "city": "b",
            "dma": "501",
            "user_properties": {"$set": {"seats": 3}},
        },
        4: full | {"user_id": "user-4"},
    }
    assert new_rows(compared) == [4]
    names = differ_for(job, None).layout.names
    changes = [{name for name, c in zip(names, row, strict=True) if c} for row in compared.changes]
    assert changes == [{"$set.plan"}, {"place", "$set.seats"}, set()]


def test_a_property_that_became_null_is_unset_once(nights: Nights) -> None:
    job = JOBS["property"]
    nights.run(job, [user(seats=3)])
    sent = dict(sent_by(nights.run(job, [user()])))
    assert sent == {1: {"user_id": "user-1", "user_properties": {"$unset": {"seats": "-"}}}}
    assert not len(nights.run(job, [user()]).mapped.kept)


def test_by_user_all_of_a_user_is_sent_or_nothing(nights: Nights) -> None:
    job = JOBS["user"]
    nights.run(job, [user(1), user(2)])
    compared = nights.run(job, [user(1), user(2, plan="b")])
    assert sent_by(compared) == in_full(job, [user(1), user(2, plan="b")])[1:]
    assert (new_rows(compared), compared.changes.tolist()) == ([], [[True]])


@pytest.mark.parametrize("by", ["property", "user"])
def test_an_ignored_column_is_no_reason_to_send_but_goes_with_others(nights: Nights, by: str) -> None:
    job = job_of(
        {"user_id": "id", "user_properties": {"plan": "plan", "seen": "seen"}},
        changes={"by": by, "ignore": ["seen"]},
    )
    nights.run(job, [user(seen="monday")])
    assert not len(nights.run(job, [user(seen="tuesday")]).mapped.kept)
    sent = dict(sent_by(nights.run(job, [user(plan="b", seen="tuesday")])))
    assert sent[1]["user_properties"]["$set"] == {"plan": "b", "seen": "tuesday"}


def test_what_a_changed_job_changes_is_sent_and_nothing_else(nights: Nights) -> None:
    def job(**properties: Any) -> Job:
        return job_of({"user_id": "id", "user_properties": properties})

    nights.run(job(plan="plan", seen="seen"), [user()])
    added = nights.run(job(raw="raw", plan="plan", seen="seen"), [user()])
    assert sent_by(added)[0][1]["user_properties"] == {"$set": {"raw": "5"}}
    upper = job(raw="raw", plan={"column": "plan", "transform": "upper"}, seen="seen")
    assert sent_by(nights.run(upper, [user()]))[0][1]["user_properties"] == {"$set": {"plan": "A"}}
    assert not len(nights.run(job(raw="raw", seen="seen"), [user()]).mapped.kept)


def test_increments_are_sent_for_every_row_and_nothing_beside_them(nights: Nights) -> None:
    job = JOBS["ignoring increments"]
    nights.run(job, [user(orders=1)])
    compared = nights.run(job, [user(orders=1, seen="b")])
    assert sent_by(compared) == [(1, {"user_id": "user-1", "user_properties": {"$add": {"orders": 1}}})]
    # What wasn't sent isn't taken for sent.
    sent = sent_by(nights.run(job, [user(plan="b", seen="b")]))
    assert sent[0][1]["user_properties"]["$set"] == {"plan": "b", "seen": "b"}


def test_after_a_changed_row_all_later_rows_of_the_user_are_sent_in_full(nights: Nights) -> None:
    job = JOBS["property"]
    nights.run(job, [user()])
    rows = [user(), user(plan="b"), user()]
    assert sent_by(nights.run(job, rows)) == [
        (2, {"user_id": "user-1", "user_properties": {"$set": {"plan": "b"}}}),
        in_full(job, rows)[2],
    ]


def test_a_device_that_changes_its_user_is_sent_in_full_and_one_that_does_not_is_not(nights: Nights) -> None:
    job = JOBS["paired"]
    nights.run(job, [user(1, device="device-1"), user(1, device="device-2"), user(2, device="device-3")])
    same = nights.run(job, [user(1, device="device-1"), user(1, device="device-2"), user(2)])
    assert not len(same.mapped.kept)
    moved = [user(2, device="device-1")]
    assert sent_by(nights.run(job, moved)) == in_full(job, moved)
    assert not len(nights.run(job, moved).mapped.kept)


def test_strangers_with_one_key_are_never_taken_for_each_other(nights: Nights) -> None:
    job = JOBS["property"]
    one = few_keys(1)
    with keyed_by(one):
        renewed(
            nights.path,
            job,
            differ_for(job, None).each(mapped_of(job, [user(1)], SCHEMA)),
            keys=one,
        )
        with opened(nights.path) as snapshot:
            assert len(snapshot) == 1
            (compared,) = differ_for(job, snapshot).each(mapped_of(job, [user(1), user(2)], SCHEMA))
    assert sent_by(compared) == in_full(job, [user(1), user(2)])[1:]


def test_a_job_without_anything_to_compare_sends_all(nights: Nights) -> None:
    job = job_of({"user_id": "id", "user_properties": {"$add": {"orders": "orders"}}})
    for _ in range(2):
        assert len(nights.run(job, [user(1, orders=1), user(2, orders=2)]).mapped.kept) == 2


def test_an_ignored_column_is_no_reason_to_send_where_a_row_says_less_than_before(nights: Nights) -> None:
    properties = {"plan": "plan", "raw": "raw", "seen": "seen"}
    job = job_of({"user_id": "id", "user_properties": properties}, changes={"ignore": ["seen"]})
    nights.run(job, [user(seen="monday")])
    assert not len(nights.run(job, [user(seen="tuesday", raw=None)]).mapped.kept)


def test_an_increment_takes_no_ignored_column_along_where_a_row_says_less_than_before(nights: Nights) -> None:
    properties = {"$set": {"plan": "plan", "raw": "raw", "seen": "seen"}, **INCREMENTS}
    job = job_of({"user_id": "id", "user_properties": properties}, changes={"ignore": ["seen"]})
    nights.run(job, [user(seen="monday")])
    sent = sent_by(nights.run(job, [user(seen="tuesday", raw=None, orders=1)]))
    assert sent[0][1]["user_properties"] == {"$add": {"orders": 1}}


@pytest.mark.parametrize("name", ["paired", "paired user"])
@pytest.mark.parametrize("ends", [[], [1], [2], [1, 2]])
def test_followers_of_followers_are_sent_in_full_whatever_the_batches(
    nights: Nights, name: str, ends: list[int]
) -> None:
    job = JOBS[name]
    nights.run(job, [user(1, device="device-1"), user(1, device="device-2"), user(2)])
    # The first takes the device of the second, and the third has the user of the second.
    rows = [user(2, device="device-1"), user(1, device="device-1"), user(1, device="device-2")]
    with opened(nights.path) as snapshot:
        sent = taken(list(differ_for(job, snapshot).each(mapped_of(job, rows, SCHEMA, ends))))
    assert sent == in_full(job, rows)


def test_a_row_that_does_nothing_but_tie_a_device_anew_is_sent_in_full(nights: Nights) -> None:
    job = job_of(
        {"user_id": "id", "device_id": "device", "language": "lang", "user_properties": {"plan": "plan"}}
    )
    tied = {"id": "user-1", "device": "device-1", "plan": "a"}
    nights.run(job, [tied])
    nights.run(job, [{"id": "user-2", "device": "device-1", "lang": "en"}])
    assert sent_by(nights.run(job, [tied])) == in_full(job, [tied])


def test_by_user_a_row_that_does_nothing_but_tie_a_device_anew_is_sent(nights: Nights) -> None:
    job = job_of(
        {"user_id": "id", "device_id": "device", "user_properties": {"plan": "plan", "seen": "seen"}},
        changes={"by": "user", "ignore": ["seen"]},
    )
    tied = [{"id": f"user-{n}", "device": "device-1", "seen": "a"} for n in (1, 2)]
    for row in (*tied, *tied):
        assert sent_by(nights.run(job, [row])) == in_full(job, [row])
    assert not len(nights.run(job, [tied[1]]).mapped.kept)


def test_a_known_user_on_an_unknown_device_is_new(nights: Nights) -> None:
    job = JOBS["paired"]
    nights.run(job, [user(1, device="device-1"), user(2)])
    rows = [user(1, device="device-1"), user(1, device="device-2"), user(2, plan="b")]
    assert new_rows(nights.run(job, rows)) == [2]


# --- rejected rows that are run again --------------------------------------------------------------------


def test_a_rejected_row_never_overwrites_what_a_later_run_had_accepted(nights: Nights) -> None:
    job = JOBS["property"]
    nights.run(job, [user(1), user(2), user(3)])
    nights.run(job, [user(1, plan="b")])
    old = [user(1, plan="c"), user(2, plan="c"), user(3), user(9, plan="c"), user(1, plan="b")]
    compared = nights.run(job, old, runs=[1, 1, 1, 1, 1])
    assert [number for number, _ in sent_by(compared)] == [2, 4]
    (reject,) = compared.mapped.rejects
    assert (reject.source, reject.row, reject.code) == ("rows.parquet", 1, "superseded")
    assert "run 1 rejected" in reject.reason
    assert "--full" in reject.reason
    assert json.loads(reject.values)["plan"] == "c"


def test_in_full_a_rejected_row_overwrites(nights: Nights) -> None:
    job = JOBS["property"]
    nights.run(job, [user(plan="b")])
    compared = nights.run(job, [user(plan="a")], runs=[1], full=True)
    assert sent_by(compared) == in_full(job, [user(plan="a")])
    assert not compared.mapped.rejects


def test_of_a_rejected_row_that_comes_late_the_increment_is_still_sent(nights: Nights) -> None:
    job = JOBS["increments"]
    nights.run(job, [user()])
    nights.run(job, [user(plan="b")])
    compared = nights.run(job, [user(plan="old", orders=5)], runs=[1])
    assert sent_by(compared) == [(1, {"user_id": "user-1", "user_properties": {"$add": {"orders": 5}}})]
    assert not compared.mapped.rejects
    # The plan that wasn't sent isn't taken for sent.
    assert sent_by(nights.run(job, [user(plan="old")]))[0][1]["user_properties"] == {"$set": {"plan": "old"}}


def test_a_late_row_is_withheld_after_another_row_of_the_user_too(nights: Nights) -> None:
    job = JOBS["increments"]
    nights.run(job, [user(plan="b")])
    nights.run(job, [user()])
    rows = [user(plan="new"), user(plan="old", orders=5), user(plan="old"), user(plan="a")]
    compared = nights.run(job, rows, runs=[-1, 1, 1, 1])
    assert [(number, own["user_properties"]) for number, own in sent_by(compared)] == [
        (1, {"$set": {"plan": "new"}}),
        (2, {"$add": {"orders": 5}}),
    ]
    assert [reject.row for reject in compared.mapped.rejects] == [3]


def test_rows_that_no_run_rejected_are_compared_as_ever(nights: Nights) -> None:
    job = JOBS["property"]
    nights.run(job, [user()])
    assert sent_by(nights.run(job, [user(plan="b")], runs=[-1]))[0][0] == 1


@given(
    exports=st.lists(st.tuples(EXPORTS, st.booleans()), min_size=2, max_size=4),
    late=st.lists(st.tuples(ROWS, st.integers(1, 4)), max_size=5),
)
@settings(max_examples=examples(15, 6))
def test_no_late_row_ever_changes_a_profile_that_was_accepted_since(
    exports: Any, late: Any, tmp_path_factory: Any
) -> None:
    job = JOBS["property"]
    nights = Nights(tmp_path_factory.mktemp("state"))
    last: dict[str, int] = {}
    for export, _ in exports:
        compared = nights.run(job, export)
        last |= {own["user_id"]: nights.number for _, own in sent_by(compared)}
    compared = nights.run(job, [row for row, _ in late], runs=[min(run, nights.number) for _, run in late])
    runs = [min(run, nights.number - 1) for _, run in late]
    for number, own in sent_by(compared):
        assert last.get(own["user_id"], 0) < runs[number - 1] + 1


# --- rows after a row of the same user that is sent --------------------------------------------------------

CHAINS = st.lists(
    st.tuples(st.integers(-1, 6), st.integers(-1, 6), st.booleans(), st.booleans()), max_size=25
)
Chain = list[tuple[int, int, bool, bool]]


def one_by_one(rows: Chain, width: int) -> list[bool]:
    users: set[int] = set()
    after = []
    for *own, sent, may in rows:
        known = set(own[:width]) - {-1}
        after.append(bool(users & known))
        if sent or (may and after[-1]):
            users |= known
    return after


@given(CHAINS, st.sampled_from([1, 2]))
def test_later_rows_are_those_that_one_finds_row_by_row(rows: Chain, width: int) -> None:
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    sent, may = table[:, 2].astype(bool), table[:, 3].astype(bool)
    assert later_rows(table[:, :width], sent, may=may).tolist() == one_by_one(rows, width)


def test_a_long_chain_of_users_and_devices_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = np.array([(n // 2, 1000 + (n + 1) // 2) for n in range(100)])
    sent = np.arange(100) == 0
    everyone = np.ones(100, dtype=bool)
    assert later_rows(chain, sent, may=everyone)[1:].all()
    monkeypatch.setattr(diff, "_ROUNDS", 1000)
    assert later_rows(chain, sent, may=everyone)[1:].all()
