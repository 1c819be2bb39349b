"""The identical export again sends nothing, whatever its rows; what changed ends as if all had been sent."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import etl
from etl.job.spec import Job
from etl.model import Batch
from etl.pipeline.run import run_job
from etl.pipeline.settings import Settings
from etl.reader import Source, open_source
from etl.run_events import Summary
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from etl.tally import RowRange
from tests.examples import combinations, examples
from tests.pipeline.making import KEY, QUICK, law_holds
from tests.pipeline.nights import KilledError, Row, held, job_in, killed, night, quiet, send, users, write

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
MEMORY = next((str(path) for path in [Path("/dev/shm")] if path.is_dir()), None)
SCORE = {"column": "score", "type": "integer", "null": "unset"}
PROPERTIES: dict[str, Any] = {
    "$set": {"plan": "plan", "score": SCORE},
    "$setOnce": {"first": "plan"},
    "$preInsert": {"before": "plan"},
    "$postInsert": {"after": "plan"},
    "$remove": {"not": "plan"},
}
WHOLE = {
    "user_id": "id",
    "platform": "platform",
    "os_name": "os",
    "language": "lang",
    "groups": {"company": "company"},
    "user_properties": PROPERTIES,
}
IDENTIFICATIONS = {
    "users": WHOLE,
    "both ids": WHOLE | {"device_id": "device"},
    "devices": {"device_id": "id", "groups": {"company": "company"}, "user_properties": PROPERTIES},
    "cleared": WHOLE | {"user_properties": {"$clearAll": True, "$set": {"plan": "plan", "score": SCORE}}},
}
CHANGES: dict[str, Any] = {
    "property": "property",
    "user": "user",
    "ignoring": {"by": "property", "ignore": ["company"]},
    "user, ignoring": {"by": "user", "ignore": ["company"]},
}
WORDS = st.sampled_from(["", "a", "b"])
DEVICES = st.sampled_from(["", "device-1", "device-2"])
ROWS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["user-1", "user-2", "user-3"]),
        "device": DEVICES,
        **dict.fromkeys(("platform", "os", "lang", "company", "plan"), WORDS),
        "score": st.sampled_from(["", "1", "2", "many"]),
    }
)
EXPORTS = st.lists(ROWS, min_size=1, max_size=10)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Sandbox, Sandbox]]:
    """One that gets what changed, and one that gets everything."""
    with running_sandbox(SandboxOptions()) as changed, running_sandbox(SandboxOptions()) as full:
        yield changed, full


def paths_of(folder: Path, rows: list[Row], files: int) -> list[Path]:
    size = -(-len(rows) // files)
    pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [write(folder / f"{number}.csv", piece) for number, piece in enumerate(pieces)]


def jobs(folder: Path, name: str, changes: str, transport: str) -> tuple[Job, Job]:
    others = {"partial_families": "reset", "destination": {"transport": transport}}
    return (
        job_in(folder / "changed", IDENTIFICATIONS[name], changes=CHANGES[changes], **others),
        job_in(folder / "full", IDENTIFICATIONS[name], changes="off", **others),
    )


HOW: dict[str, Any] = {"max_changes": 100.0, "concurrency": 2}


@settings(max_examples=examples(12, 2), phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(IDENTIFICATIONS)),
    changes=st.sampled_from(sorted(CHANGES)),
    transport=st.sampled_from(["identify", "batch"]),
    files=st.integers(1, 2),
    size=st.sampled_from([1, 3, 50]),
    exports=st.lists(EXPORTS, min_size=1, max_size=3),
    data=st.data(),
)
def test_night_after_night(
    pair: tuple[Sandbox, Sandbox],
    name: str,
    changes: str,
    transport: str,
    files: int,
    size: int,
    exports: list[list[Row]],
    data: st.DataObject,
) -> None:
    for sandbox in pair:
        sandbox.reset()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        job, other = jobs(Path(folder), name, changes, transport)
        for export in in_turn(data, exports):
            paths = paths_of(job.folder, export, files)
            send_both(pair, (job, other), paths, size)
            assert shown(pair[0], changes) == shown(pair[1], changes)
            seen = pair[0].stats.requests
            told = etl.plan(job, paths, endpoint=pair[0].url).changes
            assert told is not None
            assert (told.new, told.changed) == (0, 0)
            assert send(job, pair[0], paths, batch_size=size, **HOW).tally.accepted == 0
            assert pair[0].stats.requests == seen


LINKED = ROWS.flatmap(
    lambda row: st.sampled_from(["device-1", "device-2", "device-3"]).flatmap(
        lambda device: st.sampled_from([row, row | {"device": device}, row | {"id": "", "device": device}])
    )
)


@settings(max_examples=examples(12, 2), phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.sampled_from(sorted(CHANGES)),
    size=st.sampled_from([1, 3, 50]),
    exports=st.lists(st.lists(LINKED, min_size=1, max_size=8), min_size=1, max_size=3),
    data=st.data(),
)
def test_rows_above_the_one_that_links_their_device_are_sent_once_more(
    pair: tuple[Sandbox, Sandbox],
    changes: str,
    size: int,
    exports: list[list[Row]],
    data: st.DataObject,
) -> None:
    for sandbox in pair:
        sandbox.reset()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        job, other = jobs(Path(folder), "both ids", changes, "identify")
        for export in in_turn(data, exports):
            paths = paths_of(job.folder, export, 1)
            # When Amplitude links a device, the user's own values win; from then on all rows are the user's.
            for _ in range(2):
                send_both(pair, (job, other), paths, size)
            held_now, held_in_full = (shown(sandbox, changes) for sandbox in pair)
            for profile in chain(*(found["users"].values() for found in (held_now, held_in_full))):
                del profile["device_ids"]  # of two users who name a device, the last one has its link
            assert held_now == held_in_full
            assert send(job, pair[0], paths, batch_size=size, **HOW).tally.accepted == 0


def in_turn(data: st.DataObject, exports: list[list[Row]]) -> Iterator[list[Row]]:
    """The export of each night: one of these, or that before it with some rows changed."""
    before = list[Row]()
    for rows in exports:
        if not before or data.draw(st.booleans()):
            yield rows
        else:
            yield [data.draw(st.sampled_from([row, row, row | {"plan": "c"}])) for row in before]
        before = rows


def send_both(pair: tuple[Sandbox, Sandbox], jobs: tuple[Job, Job], paths: Sequence[Path], size: int) -> None:
    """What changed to the one, and everything to the other."""
    send(jobs[0], pair[0], paths, batch_size=size, **HOW)
    send(jobs[1], pair[1], paths, batch_size=size, concurrency=2)


def shown(sandbox: Sandbox, changes: str) -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(sandbox.profiles.as_json())
    for profiles in found.values():
        for profile in profiles.values():
            if "ignoring" in changes:
                profile.pop("groups", None)
    return found


@settings(max_examples=examples(12, 2), phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(IDENTIFICATIONS)),
    changes=st.sampled_from(sorted(CHANGES)),
    size=st.sampled_from([1, 2, 3]),
    before=EXPORTS,
    after=EXPORTS,
    moment=st.integers(1, 4),
)
def test_a_run_that_is_resumed_sends_what_it_would_have_sent(
    pair: tuple[Sandbox, Sandbox],
    name: str,
    changes: str,
    size: int,
    before: list[Row],
    after: list[Row],
    moment: int,
) -> None:
    for sandbox in pair:
        sandbox.reset()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        job, _ = jobs(Path(folder), name, changes, "identify")
        how: dict[str, Any] = {**HOW, "batch_size": size, "concurrency": 1, "endpoint": pair[0].url}
        send(job, pair[0], paths_of(job.folder, before, 1), **how)
        paths = paths_of(job.folder, after, 2)
        state = job.folder / ".propsync"
        shutil.copytree(state, job.folder / "kept")
        pair[0].reset()
        send(job, pair[0], paths, **how)
        undisturbed = bodies(pair[0])
        shutil.rmtree(state)
        (job.folder / "kept").rename(state)
        pair[0].reset()
        with killed("told", moment) as listener:
            try:
                send(job, pair[0], paths, listener=listener, **how)
            except KilledError:
                quiet(pair[0])
                send(job, pair[0], paths, **how)
        assert bodies(pair[0]) == undisturbed
        pair[0].reset()
        send(job, pair[0], paths, **how)
        assert pair[0].stats.requests == 0


def bodies(sandbox: Sandbox) -> set[str]:
    return {entry.sha256 for entry in sandbox.requests}


# --- one case at a time ----------------------------------------------------------------------------------


def test_check_counts_users_and_says_what_the_run_does(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    again = [user | {"plan": "again"} for user in users(range(70))]
    export = [*users(range(130)), *again]
    path = write(tmp_path / "users.ndjson", export)
    first = etl.plan(job, path, endpoint=sandbox.url)
    assert first.users == 130
    assert first.changes is not None
    assert (first.changes.new, first.changes.by_property["$set.plan"].new) == (130, 130)
    night(job, sandbox, export)
    same = etl.plan(job, path, endpoint=sandbox.url)
    assert same.changes is not None
    assert (same.changes.new, same.changes.changed, same.changes.unchanged) == (0, 0, 130)
    assert (same.tally.unchanged, same.tally.requests) == (200, 0)
    # Users 0 to 4 end otherwise, 5 to 9 only on the way; 200 and 201 are new, one of them twice.
    turn = [*users(range(5, 10), plan="x"), *again]
    other = [*users(range(130)), *turn, *users(range(5), plan="y"), *users([200, 201, 201])]
    told = etl.plan(job, write(path, other), endpoint=sandbox.url)
    assert told.changes is not None
    assert (told.changes.new, told.changes.changed, told.changes.unchanged) == (2, 5, 125)
    assert (told.changes.by_property["$set.plan"].changed, told.users) == (5, 132)
    assert {example.new for example in told.changes.by_property["$set.plan"].examples} == {"y"}
    sandbox.reset()
    night(job, sandbox, other)
    assert sorted(held(sandbox)) == [f"user-{number:05}" for number in (*range(5), 200, 201)]


def test_users_are_counted_where_nothing_is_compared(tmp_path: Path, sandbox: Sandbox) -> None:
    for changes in ("off", "user"):
        job = job_in(tmp_path, changes=changes)
        found = etl.plan(job, write(tmp_path / "users.ndjson", users([1, 2, 2])), endpoint=sandbox.url)
        assert found.users == 2
        assert (found.changes is None) == (changes == "off")


@pytest.mark.parametrize(
    ("kind", "changes"),
    combinations(["int8", "uint64", "float", "decimal128(6, 2)", "decimal256(60, 30)"], ["property", "user"]),
)
def test_an_equal_number_of_another_type_is_no_change(
    tmp_path: Path, sandbox: Sandbox, kind: str, changes: str
) -> None:
    job = job_in(tmp_path, {"user_id": "id", "user_properties": {"mrr": "mrr"}}, changes=changes)
    kinds = {"int8": pa.int8(), "uint64": pa.uint64(), "float": pa.float32()}
    other = kinds.get(kind) or pa.decimal128(6, 2)
    if "256" in kind:
        other = pa.decimal256(60, 30)
    numbers = pa.array([49.0, 5.0, 0.0])
    path = tmp_path / "users.parquet"
    for column in (numbers, numbers.cast(other), numbers.cast(other).dictionary_encode()):
        table = pa.table({"id": ["user-1", "user-2", "user-3"], "mrr": column})
        pq.write_table(table, path)
        summary = send(job, sandbox, [path])
    assert (summary.tally.unchanged, sandbox.stats.requests) == (3, 1)


@pytest.mark.parametrize("size", [1, 2])
def test_a_row_above_the_link_of_its_device_is_not_taken_for_the_users(
    tmp_path: Path, sandbox: Sandbox, size: int
) -> None:
    score = {"column": "score", "type": "integer"}
    properties = {"plan": "plan", "score": score}
    job = job_in(tmp_path, {"user_id": "id", "device_id": "device", "user_properties": properties})
    night(job, sandbox, [{"id": "user-1", "device": "", "plan": "a", "score": "2"}])
    rows: list[Row] = [
        {"id": "", "device": "phone", "plan": "a", "score": "1"},
        {"id": "user-1", "device": "phone", "plan": "b", "score": ""},
    ]
    assert [night(job, sandbox, rows, batch_size=size).tally.accepted for _ in range(3)] == [2, 2, 0]
    assert sandbox.profiles.users["user-1"].properties == {"plan": "b", "score": 1}


def test_a_stream_is_not_looked_through_so_later_rows_go_in_full(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path)
    export = [*users([1], plan="c"), *users([2]), *users([1], plan="b")]
    for _ in range(2):
        sandbox.reset()
        summary = run_stream(job, sandbox, export)
        assert held(sandbox)["user-00001"]["plan"] == "b"
    # Only the first row differs from what is there; the last must not be left out for being as it was.
    assert (summary.tally.accepted, summary.tally.unchanged) == (2, 1)
    # From a file it is known beforehand.
    sandbox.reset()
    assert night(job, sandbox, export).tally.unchanged == 3


def run_stream(job: Job, sandbox: Sandbox, rows: list[Row]) -> Summary:
    table = pa.Table.from_pylist(rows)
    source = open_source([pa.RecordBatchReader.from_batches(table.schema, table.to_batches())])
    how = Settings(endpoint=sandbox.url, rate=None, requests_per_second=None, backoff=QUICK, batch_size=1)
    summary = run_job(job, source, KEY, settings=how)
    assert law_holds(summary)
    return summary


def test_a_file_in_which_all_users_end_as_they_began_is_not_read_again(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_in(tmp_path)
    export = [*users(range(20), plan="x"), *users(range(20), plan="y")]
    night(job, sandbox, export)
    read: list[int] = []
    whole = Source.read

    def noted(source: Source, *gaps: RowRange, **columns: Any) -> Iterator[Batch]:
        read.extend(gap.first for gap in gaps if gap.stop is None)  # not only to see if there is any row
        return whole(source, *gaps, **columns)

    monkeypatch.setattr(Source, "read", noted)
    assert night(job, sandbox, export).tally.unchanged == 40
    assert read == [1]
