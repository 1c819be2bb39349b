"""A resumed run goes through a file once, however many gaps there are in it."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import Job
from etl.encoder import Limits
from etl.model import RowRange
from etl.pipeline.row_pipeline import RowPipeline
from etl.reader import open_source
from etl.reader.file_reader import RowSpans
from tests.examples import examples, rarely

ROWS = 60_000
COUNTERS = Path("/proc/self/io")
JOB = {"name": "t", "identification": {"user_id": "id", "user_properties": {"plan": "plan"}}}


def csv_text(rows: int = ROWS) -> bytes:
    return b"id,plan\n" + b"".join(b"user-%d,plan %d\n" % (row, row * 7919 % 1000003) for row in range(rows))


def ndjson_text(rows: int = ROWS) -> bytes:
    lines = (b'{"id":"user-%d","plan":"plan %d"}\n' % (row, row * 7919 % 1000003) for row in range(rows))
    return b"".join(lines)


def parquet(path: Path, rows: int = ROWS) -> None:
    columns = {
        "id": [f"user-{row}" for row in range(rows)],
        "plan": [f"plan {row * 7919 % 1000003}" for row in range(rows)],
    }
    pq.write_table(pa.table(columns), path, row_group_size=rows // 4)


FILES: dict[str, Callable[[Path], object]] = {
    "users.csv": lambda path: path.write_bytes(csv_text()),
    "users.csv.gz": lambda path: path.write_bytes(gzip.compress(csv_text(), 1)),
    "users.ndjson": lambda path: path.write_bytes(ndjson_text()),
    "users.ndjson.bz2": lambda path: path.write_bytes(bz2.compress(ndjson_text(), 1)),
    "users.parquet": parquet,
}


def bytes_read() -> int:
    return int(COUNTERS.read_text().split()[1])


def pipeline(path: Path, **job: Any) -> RowPipeline:
    made = Job.of({**JOB, **job}, folder=path.parent)
    return RowPipeline(made, open_source([path]), limits=Limits(identifications=100))


def gaps(count: int, rows: int = ROWS, size: int = 50) -> list[RowRange]:
    return [RowRange(0, first, first + size) for first in range(1, rows, rows // count)]


@pytest.mark.skipif(not COUNTERS.exists(), reason="needs the counters of Linux")
@pytest.mark.parametrize(
    "name",
    ["users.csv", "users.ndjson.bz2", "users.parquet", *rarely("users.csv.gz", "users.ndjson")],
)
def test_eighty_gaps_cost_the_bytes_of_one_pass(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FILES[name](path)
    made = pipeline(path)
    list(made.chunks(gaps(2)))  # modules are read as well, the first time
    before = bytes_read()
    chunks = [chunk for some in made.chunks(gaps(80)) for chunk in some]
    assert bytes_read() - before < 1.5 * path.stat().st_size + (1 << 16)
    assert sum(len(chunk.numbers) for chunk in chunks) == 80 * 50


SPANS = st.lists(st.integers(1, 400), min_size=2, max_size=24, unique=True).map(sorted)


@settings(max_examples=examples(25, 5), deadline=None)
@given(borders=SPANS, open_end=st.booleans(), step=st.sampled_from([1, 2]))
@pytest.mark.parametrize("name", ["users.csv", "users.csv.gz", "users.ndjson", "users.parquet"])
def test_gaps_have_the_bodies_that_they_have_alone(
    name: str, tmp_path_factory: pytest.TempPathFactory, borders: list[int], open_end: bool, step: int
) -> None:
    folder = tmp_path_factory.mktemp("gaps")
    path = folder / name
    make = {"users.csv": csv_text, "users.ndjson": ndjson_text}
    if name == "users.parquet":
        parquet(path, 320)
    else:
        data = make[name.removesuffix(".gz")](320)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    made = pipeline(path)
    # Neighbours that touch stay two gaps, where the step is 1.
    found = [RowRange(0, first, stop) for first, stop in zip(borders[::step], borders[1::step], strict=False)]
    found += [RowRange(0, borders[-1])] if open_end else []
    together = [chunk for some in made.chunks(found) for chunk in some]
    alone = [chunk for gap in found for some in made.chunks([gap]) for chunk in some]
    whole = [chunk for some in made.chunks(made.rows.files()) for chunk in some]
    planned = [chunk for some in made.planned(None, lambda _: None, lambda _: None) for chunk in some]
    for ours, theirs in ((together, alone), (whole, planned)):
        bodies = [[(c.first, c.stop, b"".join(c.body)) for c in chunks] for chunks in (ours, theirs)]
        assert bodies[0] == bodies[1]


@given(borders=SPANS, open_end=st.booleans(), first=st.integers(1, 420), size=st.integers(1, 60))
def test_spans_are_what_their_rows_say(borders: list[int], open_end: bool, first: int, size: int) -> None:
    pairs: list[tuple[int, int | None]] = list(zip(borders[::2], borders[1::2], strict=False))
    if open_end:
        pairs.append((borders[-1], None))
    rows = {row for low, high in pairs for row in range(low, high or 500)}
    spans = RowSpans(pairs)
    assert spans.next(first) == min((row for row in rows if row >= first), default=None)
    within = {row for low, high in spans.within(first, first + size) for row in range(low, high)}
    assert within == {row for row in rows if first <= row < first + size}


@given(pairs=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20))).map(sorted))
def test_joined_spans_have_the_same_rows_once(pairs: list[tuple[int, int]]) -> None:
    spans = [(first, first + size) for first, size in pairs]
    rows = [row for low, high in RowSpans(spans).within(1, 500) for row in range(low, high)]
    assert rows == sorted({row for low, high in spans for row in range(low, high)})


def fail(_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("places", [(fail, id), (id, fail)])
def test_a_plan_that_stops_in_the_middle_raises_its_own_error(tmp_path: Path, places: Any) -> None:
    csv = tmp_path / "users.csv"
    csv.write_bytes(csv_text())
    look, watch = places
    made = pipeline(csv)
    with pytest.raises(ZeroDivisionError):
        list(made.planned(None, look, watch))
