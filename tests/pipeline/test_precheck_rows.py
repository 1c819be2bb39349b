"""An export without rows, or with far too few, is a broken one until somebody says that it isn't."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import TooFewRowsError, TooManyChangesError, UsageError
from etl.job.spec import Job
from etl.pipeline.plan import plan_job
from etl.pipeline.run import no_listener, run_job
from etl.pipeline.settings import RowMinimum, Settings
from etl.reader import open_source
from etl.run_events import Ended, Event, Listener, Summary, Warned
from etl.sandbox import Sandbox
from tests.examples import combinations
from tests.pipeline.making import KEY, QUICK
from tests.pipeline.nights import arrived, held, job_in, night, send, users, write

SCHEMA = pa.schema([("id", pa.string()), ("plan", pa.string()), ("score", pa.int64())])
HEADER = "id,plan,score\n"
NONE = RowMinimum(count=0)


def run(
    job: Job, sandbox: Sandbox, *sources: object, listener: Listener = no_listener, **settings: Any
) -> Summary:
    chosen = Settings(endpoint=sandbox.url, rate=None, backoff=QUICK, batch_size=50, **settings)
    return run_job(job, open_source(sources, csv=job.csv), KEY, settings=chosen, listener=listener)


def write_empty(folder: Path, kind: str) -> object:
    """A source without any row, in one of the ways there are."""
    folder.mkdir()
    for name in ("a", "b"):
        path = folder / f"{name}.{kind.split()[0]}"
        if kind.startswith("parquet"):
            pq.write_table(SCHEMA.empty_table(), path)
        elif kind == "csv.gz":
            path.write_bytes(gzip.compress(b""))
        else:
            path.write_text({"csv header": HEADER, "ndjson blank": "\n \n"}.get(kind, ""))
    return folder


def empty_tables() -> list[object]:
    frame = pd.DataFrame({"id": [], "plan": [], "score": []})
    return [SCHEMA.empty_table(), pa.table({}), frame, pd.DataFrame(), SCHEMA.empty_table().to_reader()]


EMPTY = ["csv", "csv header", "csv.gz", "ndjson", "ndjson blank", "parquet", "parquet in a folder"]


@pytest.mark.parametrize(("kind", "absent"), combinations(EMPTY, ["keep", "unset"]))
def test_no_rows_where_there_were_some_stop_the_run(
    tmp_path: Path, sandbox: Sandbox, kind: str, absent: str
) -> None:
    job, heard = job_in(tmp_path / "job", absent=absent), list[Event]()
    night(job, sandbox, users(range(5)))
    arrived(sandbox)
    source = write_empty(tmp_path / "exports", kind)
    given = [source] if "folder" in kind else sorted(Path(str(source)).iterdir())
    for _ in range(2):
        with pytest.raises(TooFewRowsError, match="no rows, and the last finished run had 5") as caught:
            run(job, sandbox, *given, listener=heard.append)
    assert caught.value.exit_code == 4
    assert "--min-rows 0" in str(caught.value.hint)
    ends = [event.summary for event in heard if isinstance(event, Ended)]
    assert [(end.exit_code, end.tally.rows, end.tally.requests) for end in ends] == [(4, 0, 0)] * 2
    told = plan_job(job, open_source(given), settings=Settings(endpoint=sandbox.url)).refused
    assert isinstance(told, TooFewRowsError)
    assert sandbox.stats.requests == 0
    # The night after is compared with the last that went well.
    assert night(job, sandbox, users(range(6))).tally.accepted == 1


@pytest.mark.parametrize("number", range(5))
def test_so_do_tables_and_streams_without_rows(tmp_path: Path, sandbox: Sandbox, number: int) -> None:
    job = job_in(tmp_path / "job", absent="unset")
    night(job, sandbox, users(range(5)))
    arrived(sandbox)
    with pytest.raises(TooFewRowsError, match="no rows"):
        run(job, sandbox, empty_tables()[number])
    told = plan_job(job, open_source([empty_tables()[number]]), settings=Settings(endpoint=sandbox.url))
    assert isinstance(told.refused, TooFewRowsError)
    assert sandbox.stats.requests == 0
    assert night(job, sandbox, users(range(6))).tally.accepted == 1
    summary = run(job, sandbox, empty_tables()[number], min_rows=NONE)
    assert summary.tally.rows == 0


def test_so_does_an_empty_pipe(tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(5)))
    for text in ("", HEADER):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        with pytest.raises(TooFewRowsError, match="no rows"):
            run(job, sandbox, "-")
    assert night(job, sandbox, users(range(6))).tally.accepted == 1


@pytest.mark.parametrize("content", ["", HEADER])
def test_a_first_night_may_be_empty(tmp_path: Path, sandbox: Sandbox, content: str) -> None:
    job = job_in(tmp_path / "job")
    path = tmp_path / "users.csv"
    path.write_text(content)
    for _ in range(2):
        assert run(job, sandbox, path).tally.rows == 0
    assert run(job, sandbox, write(tmp_path / "users.ndjson", users([1]))).tally.accepted == 1


def test_whoever_was_told_of_by_a_baseline_counts_as_a_run(tmp_path: Path, sandbox: Sandbox) -> None:
    from etl.pipeline.diff_base import record_baseline

    job = job_in(tmp_path / "job")
    path = write(job.folder / "users.ndjson", users(range(5)))
    record_baseline(job, open_source([path]), settings=Settings(endpoint=sandbox.url))
    with pytest.raises(TooFewRowsError):
        night(job, sandbox, [])


@pytest.mark.parametrize(
    ("known", "export"), combinations([3, 12], [[], [{"id": None, "plan": "x", "score": 1}] * 3])
)
def test_an_export_that_names_nobody_unsets_nobody(
    tmp_path: Path, sandbox: Sandbox, known: int, export: list[dict[str, Any]]
) -> None:
    job, heard = job_in(tmp_path / "job", absent="unset"), list[Event]()
    night(job, sandbox, users(range(known)))
    before = held(sandbox)
    night(job, sandbox, export, min_rows=NONE, max_absent=100.0, listener=heard.append)
    assert held(sandbox) == before
    (warning,) = [event for event in heard if isinstance(event, Warned)]
    assert (warning.code, f"{known} users are known" in warning.message) == ("nobody", True)
    # And they are still known.
    night(job, sandbox, users(range(1, known)), max_absent=100.0)
    assert held(sandbox)["user-00000"] == {}


MINIMA = [
    (RowMinimum(percent=90), 89, False),
    (RowMinimum(percent=90), 90, True),
    (RowMinimum(percent=200), 199, False),
    (RowMinimum(count=50), 49, False),
    (RowMinimum(count=50), 50, True),
    (NONE, 1, True),
    (RowMinimum(percent=0), 1, True),
]


@pytest.mark.parametrize(("kind", "case"), combinations(["csv", "ndjson", "parquet", "table"], MINIMA))
def test_too_few_rows_stop_the_run_before_anything_is_sent(
    tmp_path: Path, sandbox: Sandbox, kind: str, case: tuple[RowMinimum, int, bool]
) -> None:
    minimum, rows, enough = case
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(100)))
    arrived(sandbox)
    export = users(range(rows), plan="x")
    source: object = tmp_path / f"users.{kind}"
    if kind == "table":
        source = pa.Table.from_pylist(export)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(export), source)
    else:
        write(Path(str(source)), export)
    if enough:
        assert run(job, sandbox, source, min_rows=minimum).tally.accepted == rows
        return
    with pytest.raises(TooFewRowsError, match=f"the source has {rows} rows") as caught:
        run(job, sandbox, source, min_rows=minimum)
    assert f"--min-rows is {minimum}" in caught.value.message
    assert sandbox.stats.requests == 0


def test_a_share_is_of_the_last_export_and_not_of_rejects_sent_again(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    job, most = job_in(tmp_path / "job"), RowMinimum(percent=90)
    assert night(job, sandbox, users(range(3)), min_rows=most).tally.rows == 3  # nothing to compare with
    night(job, sandbox, [*users(range(99)), *users([99], score="much")], min_rows=most)
    rejects = job.state_dir / "rejects.ndjson"
    mended = tmp_path / "mended.ndjson"
    mended.write_text(rejects.read_text().replace('"much"', "99"))
    assert send(job, sandbox, [mended], min_rows=most).tally.rows == 1
    with pytest.raises(TooFewRowsError):
        night(job, sandbox, users(range(89)), min_rows=most)
    # Who left counts as a row of the run, and not of its export.
    assert night(job, sandbox, users(range(90)), min_rows=most).tally.rows == 90


def test_rows_that_can_t_be_sent_are_rows(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(5)))
    assert night(job, sandbox, users(range(5), score="much")).tally.rejected == 5
    ragged = tmp_path / "ragged.csv"
    ragged.write_text(f"{HEADER}user-1,a\nuser-2,b,1,2\n")
    assert run(job, sandbox, ragged, min_rows=RowMinimum(count=2)).tally.rejected == 2


def test_the_rows_of_a_stream_can_t_be_counted_before(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job")
    reader = pa.Table.from_pylist(users(range(5))).to_reader()
    with pytest.raises(UsageError, match="--min-rows"):
        run(job, sandbox, reader, min_rows=RowMinimum(percent=90))
    assert run(job, sandbox, reader, min_rows=RowMinimum(count=1)).tally.rows == 5


def test_a_run_that_is_resumed_was_looked_at_before(tmp_path: Path, sandbox: Sandbox) -> None:
    """And one that stopped among its first rows sends the rest, whatever the option says now."""
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(100)))
    with pytest.raises(TooManyChangesError):
        night(job, sandbox, users(range(50), plan="x"), max_changes=1.0)
    with pytest.raises(TooFewRowsError):
        night(job, sandbox, users(range(40)), min_rows=RowMinimum(percent=90))
    assert night(job, sandbox, users(range(90)), min_rows=RowMinimum(percent=90)).tally.unchanged == 90
