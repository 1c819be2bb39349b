"""What a run sends of the rows that the look has kept is what it would send if it read everything again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from etl import Job
from etl.checkpoint import StateDir
from etl.encoder import Limits
from etl.errors import SourceError
from etl.model import Chunk
from etl.pipeline import precheck as precheck_module
from etl.pipeline import run as run_module
from etl.pipeline.diff_base import open_diff_base, record_baseline
from etl.pipeline.precheck import ChangedRows, precheck
from etl.pipeline.row_pipeline import RowPipeline
from etl.pipeline.run import no_listener, run_job
from etl.pipeline.settings import Settings
from etl.reader import Source, open_source
from etl.run_events import Listener
from etl.sandbox import Sandbox, running_sandbox
from etl.tally import RowRange
from tests.examples import examples
from tests.pipeline.making import KEY, QUICK, law_holds
from tests.pipeline.nights import KilledError, Row, held, job_in, killed, quiet, users, write
from tests.pipeline.test_failed_nights import dying_after
from tests.pipeline.test_second_night import MEMORY

SCORE: Row = {"column": "score", "type": "integer"}
SETS = {"plan": "plan", "score": SCORE}
JOBS: dict[str, Row] = {
    "property": {"user_properties": SETS},
    "user": {"user_properties": SETS, "changes": "user"},
    "skips": {"user_properties": {"plan": "plan", "score": SCORE | {"invalid": "skip"}}},
    "ignores": {"user_properties": SETS, "changes": {"ignore": ["score"]}},
    "inserts": {
        "user_properties": {
            "$postInsert": {"plans": "plan", "scores": "score"},
            "$setOnce": {"first": "plan"},
        },
        "changes": {"ignore": ["score"]},
    },
    "adds": {"user_properties": {"$set": {"plan": "plan"}, "$add": {"points": SCORE}}},
    "devices": {"device_id": "device", "user_properties": SETS},
    "devices by user": {"device_id": "device", "user_properties": SETS, "changes": "user"},
    "unsets": {"user_properties": SETS, "changes": {"by": "property", "absent": "unset"}},
}
VALUES = st.fixed_dictionaries(
    {
        "id": st.integers(1, 12).map("user-{}".format) | st.just(""),
        "device": st.sampled_from(["", "", "phone-1", "phone-2", "phone-3"]),
        "plan": st.sampled_from(["a", "b", ""]),
        "score": st.sampled_from(["1", "2", "x", ""]),
    }
)
EXPORTS = st.lists(VALUES, min_size=1, max_size=60)
CHANGES = st.lists(st.tuples(st.integers(0, 59), VALUES), max_size=8)


def job_of(folder: Path, name: str) -> Job:
    identification = {"user_id": "id", **JOBS[name]}
    return job_in(folder, identification, changes=identification.pop("changes", "property"))


def after(export: list[Row], changes: list[tuple[int, Row]], gone: int) -> list[Row]:
    """The export of the next night: some rows are others, and the last ones left."""
    rows = list(export)
    for place, row in changes:
        rows[place % len(rows)] = row
    return rows[: len(rows) - gone] or rows


def files_of(folder: Path, rows: list[Row], ending: str, count: int) -> list[Path]:
    """The rows in so many files, the values as text."""
    folder.mkdir(exist_ok=True)
    size, paths = -(-len(rows) // count), []
    for number in range(count):
        part = rows[number * size : (number + 1) * size]
        path = folder / f"{number}.{ending}"
        if ending == "parquet":
            table = pa.Table.from_pylist(part, pa.schema([(name, pa.string()) for name in rows[0]]))
            pq.write_table(table, path, row_group_size=7)
        elif ending == "csv" and number and part:  # a line that no one can read
            write(path, part)
            path.write_text(path.read_text() + "too,many,fields,in,this,line\n")
        else:
            write(path, part)
        paths.append(path)
    return [path for path in paths if path.stat().st_size > len("id,device,plan,score")]


def source_of(paths: Sequence[Path], batch_rows: int = 16384) -> Source:
    return open_source([str(path) for path in paths], batch_rows=batch_rows)


def plain(chunk: Chunk) -> list[object]:
    """All of a chunk but `large`, which may name numbers of rows that stay."""
    found: list[object] = []
    for field in fields(chunk):
        value = getattr(chunk, field.name)
        if field.name == "body":
            value = b"".join(value)
        elif field.name == "rows":
            value = value.to_pylist()
        elif field.name == "unsent":
            value = [(one.numbers.tolist(), one.keys.tolist(), one.end) for one in value]
        elif hasattr(value, "tolist"):
            value = value.tolist()
        if field.name != "large":
            found.append((field.name, value))
    return found


@settings(max_examples=examples(400, 8), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(list(JOBS)),
    ending=st.sampled_from(["csv", "parquet", "ndjson"]),
    export=EXPORTS,
    changes=CHANGES,
    borders=st.lists(st.integers(2, 60), max_size=6, unique=True).map(sorted),
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 12), st.integers(1, 30), st.integers(1, 3)),
)
def test_what_is_kept_gives_the_chunks_of_the_whole_source(
    name: str,
    ending: str,
    export: list[Row],
    changes: list[tuple[int, Row]],
    borders: list[int],
    sizes: tuple[int, int, int, int],
) -> None:
    batch_rows, most, together, count = sizes
    with tempfile.TemporaryDirectory(dir=MEMORY) as place, pytest.MonkeyPatch.context() as patch:
        folder = Path(place)
        patch.setattr(precheck_module, "_TOGETHER_ROWS", together)
        job = job_of(folder / "job", name)
        first = source_of(files_of(folder / "first", export, ending, count))
        record_baseline(job, first, settings=Settings())
        paths = files_of(folder / "second", after(export, changes, 0), ending, count)
        with open_diff_base(job, StateDir(job.state_dir)) as base, ChangedRows(folder / "beside") as kept:
            limits = Limits(identifications=most)
            pipeline = RowPipeline(job, source_of(paths, batch_rows), base, limits=limits)
            found = precheck(pipeline, folder / "beside", kept)
            assert found is not None
            cuts = [1, *borders]
            gaps = [
                RowRange(file, first, stop)
                for file in range(len(paths))
                for first, stop in zip(cuts, [*borders, None], strict=True)
            ]
            ways = [
                [
                    plain(chunk)
                    for some in pipeline.chunks(gaps, final=found.final, changed=way)
                    for chunk in some
                ]
                for way in (kept, None)
            ]
            assert ways[0] == ways[1]
            if name in {"property", "skips", "adds", "unsets"}:
                assert kept.complete


def test_a_row_that_goes_because_of_a_later_one_is_not_left_out(tmp_path: Path) -> None:
    job = job_of(tmp_path / "job", "inserts")
    row = {"id": "user-1", "device": "", "plan": "a", "score": "1"}
    first = source_of(files_of(tmp_path / "first", [row], "csv", 1))
    record_baseline(job, first, settings=Settings())
    # The first row differs in what is ignored alone; by the second one the whole list is another.
    rows = [row | {"score": "2"}, row | {"plan": "b"}]
    second = source_of(files_of(tmp_path / "second", rows, "csv", 1))
    with open_diff_base(job, StateDir(job.state_dir)) as base, ChangedRows(tmp_path / "beside") as kept:
        pipeline = RowPipeline(job, second, base, limits=Limits())
        found = precheck(pipeline, tmp_path / "beside", kept)
        assert found is not None
        (chunk,) = (
            chunk
            for some in pipeline.chunks([RowRange(0)], final=found.final, changed=kept)
            for chunk in some
        )
        assert (chunk.numbers.tolist(), kept.complete) == ([1, 2], False)


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Sandbox, Sandbox]]:
    with running_sandbox() as one, running_sandbox() as other:
        yield one, other


def run(job: Job, sandbox: Sandbox, paths: Sequence[Path], fate: str) -> list[object]:
    """A night that is killed first, if that is its fate, and resumed then; the counts of all of it."""
    how = Settings(
        endpoint=sandbox.url, rate=None, requests_per_second=None, backoff=QUICK, batch_size=2, concurrency=1
    )
    kind, _, number = fate.partition(" ")
    summary = None
    with suppress(KilledError), ExitStack() as stack:
        listener: Listener = no_listener
        if kind == "sent":
            stack.enter_context(dying_after(int(number)))
        elif fate:
            listener = stack.enter_context(killed(kind, int(number)))
        summary = run_job(job, source_of(paths, 5), KEY, settings=how, listener=listener)
    if summary is None:
        quiet(sandbox)
        summary = run_job(job, source_of(paths, 5), KEY, settings=how)
    assert law_holds(summary)
    tally = summary.tally
    return [tally.rows, tally.accepted, tally.unchanged, tally.merged, tally.rejected, summary.skipped_values]


@settings(
    max_examples=examples(120, 3),
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    name=st.sampled_from(["property", "user", "skips", "devices", "unsets"]),
    ending=st.sampled_from(["csv", "parquet", "ndjson"]),
    export=EXPORTS,
    changes=CHANGES,
    gone=st.integers(0, 5),
    fate=st.sampled_from(
        ["", "sent 1", "sent 2", "committing 1", "committed 1", "committed 2", "renewing 1"]
    ),
    count=st.integers(1, 3),
)
def test_whenever_it_is_killed_the_same_arrives(
    places: tuple[Sandbox, Sandbox],
    name: str,
    ending: str,
    export: list[Row],
    changes: list[tuple[int, Row]],
    gone: int,
    fate: str,
    count: int,
) -> None:
    found = []
    for sandbox, keeps in zip(places, (True, False), strict=True):
        sandbox.reset()
        with tempfile.TemporaryDirectory(dir=MEMORY) as place, pytest.MonkeyPatch.context() as patch:
            folder = Path(place)
            patch.setattr(precheck_module, "_TOGETHER_ROWS", 3)
            if not keeps:
                patch.setattr(ChangedRows, "add", lambda self, _: self.drop())
            job = job_of(folder / "job", name)
            run(job, sandbox, files_of(folder / "first", export, ending, count), "")
            before = sandbox.stats.identifications
            second = files_of(folder / "second", after(export, changes, gone), ending, count)
            counts = run(job, sandbox, second, fate if keeps else "")
            sent = sandbox.stats.identifications - before
            found.append((counts, held(sandbox), sent if not fate else None))
            if name == "devices":  # rows above the one that links their device are sent once more
                run(job, sandbox, second, "")
            # And then all is as it is known to be.
            assert run(job, sandbox, second, "")[1] == 0
            assert not [path.name for path in job.state_dir.iterdir() if path.name.startswith("tmp")]
    assert found[0] == found[1]


def test_a_source_that_changes_behind_the_look_is_noticed(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_in(tmp_path)
    path = write(tmp_path / "users.csv", users(range(30)))
    how = Settings(endpoint=sandbox.url, rate=None, requests_per_second=None, backoff=QUICK)
    run_job(job, open_source([str(path)]), KEY, settings=how)
    snapshot = (job.state_dir / "snapshot.arrow").read_bytes()
    whole = precheck_module.precheck

    def written_to(*given: Any, **named: Any) -> object:
        found = whole(*given, **named)
        write(path, users(range(30), plan="later"))
        return found

    write(path, users(range(30), score=7))
    monkeypatch.setattr(run_module, "precheck", written_to)
    with pytest.raises(SourceError, match="changed while it was read"):
        run_job(job, open_source([str(path)]), KEY, settings=how)
    assert (job.state_dir / "snapshot.arrow").read_bytes() == snapshot
    # What the first one sent was of the export as it was when the run began.
    assert {row["plan"] for row in held(sandbox).values()} == {"plan 0", "plan 1", "plan 2"}


@pytest.mark.parametrize("why", ["too many", "no folder", "full disk"])
def test_where_rows_cannot_be_kept_the_source_is_read_again(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(precheck_module, "_TOGETHER_ROWS", 2)
    if why == "too many":
        monkeypatch.setattr(precheck_module, "_MOST_BYTES", 1)
    elif why == "full disk":
        full = partial(open, "/dev/full", "w+b")
        monkeypatch.setattr(precheck_module, "tempfile", SimpleNamespace(TemporaryFile=lambda **_: full()))
    else:
        whole = ChangedRows.__init__
        monkeypatch.setattr(ChangedRows, "__init__", lambda self, path: whole(self, path / "none" / "there"))
    job = job_in(tmp_path)
    path = write(tmp_path / "users.csv", users(range(30)))
    how = Settings(endpoint=sandbox.url, rate=None, requests_per_second=None, backoff=QUICK)
    run_job(job, open_source([str(path)]), KEY, settings=how)
    write(path, users(range(9), plan="x") + users(range(9, 30)))
    summary = run_job(job, open_source([str(path)]), KEY, settings=how)
    assert (summary.tally.accepted, summary.tally.unchanged) == (9, 21)
    assert held(sandbox)["user-00008"]["plan"] == "x"
