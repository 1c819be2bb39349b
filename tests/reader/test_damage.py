"""Whatever bytes a file holds, reading it gives rows, rejects or a SourceError: no crash and no lost row."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.model import Batch
from etl.tally import RowRange
from tests.examples import examples
from tests.reader.reading import opened, written

some = settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ROWS = [{"id": f"usér-{i}", "n": i, "tags": ["a", "b\n"], "price": i / 3} for i in range(40)]


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=9, compression="snappy")
    return sink.getvalue()


CSV = ("id,n,tags\n" + "".join(f'"{r["id"]}",{r["n"]},"a;b\n"\n' for r in ROWS)).encode()
SAMPLES = {
    "x.csv": CSV,
    "x.csv.gz": gzip.compress(CSV),
    "x.ndjson": "".join(f"{json.dumps(row)}\n" for row in ROWS).encode(),
    "x.parquet": parquet(),
}
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=8)), min_size=1, max_size=4
)


def survived(path: Path) -> list[Batch]:
    """What was read of the file before a SourceError, which has to name it."""
    found: list[Batch] = []
    told = ""
    try:
        found.extend(opened(path).read(RowRange(0)))
    except SourceError as error:
        told = str(error)
    assert not told or path.name in told
    return found


@pytest.mark.parametrize("name", SAMPLES)
@some
@given(changes=edits)
def test_damage_is_told_and_nothing_else_happens(
    tmp_path: Path, name: str, changes: list[tuple[float, int, bytes]]
) -> None:
    data = SAMPLES[name]
    for where, removed, added in changes:
        at = int(where * len(data))
        data = data[:at] + added + data[at + removed :]
    row = 1
    for batch in survived(written(tmp_path, name, data)):
        assert batch.first == row
        assert batch.rows.num_rows + len(batch.rejects) == batch.stop - batch.first
        batch.rows.validate(full=True)
        row = batch.stop


@some
@given(data=st.binary(max_size=60))
def test_any_bytes_are_rows_rejects_or_an_error(tmp_path: Path, data: bytes) -> None:
    for name in ("x.csv", "x.ndjson", "x"):
        for batch in survived(written(tmp_path, name, data)):
            assert batch.rows.num_rows + len(batch.rejects) == batch.stop - batch.first
