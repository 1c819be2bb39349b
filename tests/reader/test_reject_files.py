"""Rejects sent again: every value arrives as it would have from the source itself, whatever that was."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.arrow.originals import original_rows, rows_with_originals
from etl.checkpoint import publish_rejects, reject_lines
from etl.errors import EtlError
from etl.job.column_spec import ColumnSpec
from etl.mapper import Mapper
from etl.model import Batch, Reject
from etl.reader import Source, open_source
from etl.tally import RowRange
from tests.examples import each_row, examples
from tests.mapper.arrow_samples import ARROW_SAMPLES
from tests.mapper.mapping import sent, setting

MAPPER = Mapper(setting(ColumnSpec(column="v")))


def batches(source: Source, mapper: Mapper = MAPPER) -> list[Batch]:
    return [
        batch
        for file in range(len(source.files))
        for batch in source.read(RowRange(file), used=mapper.columns)
    ]


def outcomes(source: Source, mapper: Mapper = MAPPER) -> list[Any]:
    """What is sent of each row, or its reject's code; None where it says nothing."""
    found: dict[tuple[int, int], Any] = {}
    for batch in batches(source, mapper):
        mapped = mapper.map(batch)
        rows = mapped.batch.numbers[mapped.kept].tolist()
        found |= {(batch.file, row): None for row in range(batch.first, batch.stop)}
        found |= {(batch.file, row): one for row, one in zip(rows, sent(mapped), strict=True)}
        found |= {(batch.file, reject.row): reject.code for reject in mapped.rejects}
    return [found[place] for place in sorted(found)]


def refused(source: Source, mapper: Mapper = MAPPER) -> list[Reject]:
    """All readable rows of a source, as if the server had refused each."""
    found = []
    for batch in batches(source, mapper):
        shown = original_rows(
            rows_with_originals(batch),
            range(batch.rows.num_rows),
            source=batch.source,
            text=batch.text,
            keep_empty=mapper.keep_empty,
        )
        found += [
            Reject(batch.source, row, "malformed", "refused", one.values, origin=one.origin)
            for row, one in zip(batch.numbers.tolist(), shown, strict=True)
        ]
    return found


def sent_again(source: Source, folder: Path, mapper: Mapper = MAPPER) -> Source:
    """The rejects of its rejects."""
    for generation in range(2):
        path = folder / f"rejects-{generation}.ndjson"
        publish_rejects(path, refused(source, mapper), run=1)
        source = open_source([path])
    return source


def with_ids(values: pa.Array, ids: pa.Array | None = None) -> pa.Table:
    ids = pa.array([f"user-{row}" for row in range(len(values))]) if ids is None else ids
    return pa.Table.from_arrays([ids, values], names=["u", "v"])


@each_row("kind", ARROW_SAMPLES)
def test_values_of_any_arrow_type_arrive_as_from_the_table(kind: str, tmp_path: Path) -> None:
    try:
        source = open_source([with_ids(ARROW_SAMPLES[kind][0])])
        readable = [what for what in outcomes(source) if what != "bad_encoding"]
    except EtlError:
        return  # no table of it can be read
    assert outcomes(sent_again(source, tmp_path)) == readable


@cache
def lines_of(kind: str) -> dict[bytes, Any]:
    """Reject lines of a column, each with what is sent of it."""
    try:
        source = open_source([with_ids(ARROW_SAMPLES[kind][0])])
        values = [what for what in outcomes(source) if what != "bad_encoding"]
    except EtlError:
        return {}
    return dict(zip(reject_lines(refused(source), run=1), values, strict=True))


@settings(max_examples=examples(40, 8), deadline=None)
@given(order=st.lists(st.sampled_from(sorted(ARROW_SAMPLES)), min_size=1, max_size=12), data=st.data())
def test_lines_of_many_sources_may_stand_in_one_file_in_any_order(
    order: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rejects")
    lines = {line: value for kind in dict.fromkeys(order) for line, value in lines_of(kind).items()}
    (folder / "users.csv").write_text('u,v\nuser-1,\nuser-2," 5 "\n')
    text = open_source([folder / "users.csv"])
    lines |= dict(zip(reject_lines(refused(text), run=1), outcomes(text), strict=True))
    chosen = data.draw(st.permutations(list(lines)))
    (folder / "all.ndjson").write_bytes(b"".join(chosen))
    assert outcomes(open_source([folder / "all.ndjson"])) == [lines[line] for line in chosen]


ODD_CSV = 'u,v\nuser-1,\nuser-2,""\nuser-3,"\u200bx"\nuser-4,9007199254740993\nuser-5,0012\nuser-6,null\n'
ODD_JSON = (
    '{"u":"user-1","v":9007199254740993}\n{"u":"user-2","v":123456789012345678901234567890}\n'
    '{"u":"user-3","v":"","v":"last"}\n{"u":"user-4","v":""}\n{"u":"user-5","v":null}\n{"u":"user-6"}\n'
    '{"u":"user-7","v":"\u200b\u00ad"}\n{"u":"user-8","v":{"a":1e-7,"b":[1,2.50]}}\n{"u":"user-9","v":1e400}\n'
)


@each_row("text", [ODD_CSV, ODD_JSON])
@each_row("name", ["users.csv", "users.ndjson", "users.dat", "users"])
@each_row("column", [{}, {"empty": "keep"}, {"type": "string"}])
def test_text_arrives_as_from_the_file_whatever_its_name(
    name: str, text: str, column: dict[str, Any], tmp_path: Path
) -> None:
    if name.endswith("csv") != text.startswith("u") and "." in name and not name.endswith("dat"):
        return  # a file is read as its name says
    path = tmp_path / name
    path.write_text(text)
    mapper = Mapper(setting(ColumnSpec(column="v", **column)))
    source = open_source([path])
    assert outcomes(sent_again(source, tmp_path, mapper=mapper), mapper) == outcomes(source, mapper)


def edited(tmp_path: Path, values: pa.Array, change: Callable[[dict[str, Any]], object]) -> list[Any]:
    path = tmp_path / "rejects.ndjson"
    publish_rejects(path, refused(open_source([with_ids(values)])), run=1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines[0])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return outcomes(open_source([path]))


def put(value: object) -> Callable[[dict[str, Any]], object]:
    return lambda line: line["values"].update(v=value)


TIME = pa.array([dt.datetime(2024, 1, 1, 1, 2, 3, 456789)] * 2, pa.timestamp("us"))
MONEY = pa.array([Decimal("49.00")] * 2, pa.decimal128(10, 2))


@each_row(
    ("values", "value", "expected"),
    [
        (TIME, "2024-02-03T04:05:06.789", ["2024-02-03T04:05:06", "2024-01-01T01:02:03"]),
        (TIME, "never", ["never", "2024-01-01T01:02:03"]),
        (TIME, None, [None, "2024-01-01T01:02:03"]),
        (MONEY, 50.25, [50.25, 49.0]),
        (MONEY, "free", ["free", 49.0]),
        (pa.array([2**63 + 5] * 2, pa.uint64()), 7, [7, 2**63 + 5]),
    ],
)
def test_an_edited_value_counts_and_its_neighbours_stay(
    values: pa.Array, value: object, expected: list[object], tmp_path: Path
) -> None:
    found = edited(tmp_path, values, put(value))
    assert [_property(one) for one in found] == expected


@pytest.mark.parametrize("origin", ["arrow:", "arrow:AAAA.AAAA", "arrow:eJw=.x", "arrow:\u00e9.\u00e9"])
def test_a_damaged_origin_is_a_bad_line(origin: str, tmp_path: Path) -> None:
    found = edited(tmp_path, TIME, lambda line: line.update(origin=origin))
    assert found[0] == "bad_line"
    assert _property(found[1]) == "2024-01-01T01:02:03"


@each_row("kind", ARROW_SAMPLES)
def test_values_beside_a_text_that_is_corrected_arrive_as_from_the_table(kind: str, tmp_path: Path) -> None:
    values = ARROW_SAMPLES[kind][0]
    try:
        expected = outcomes(open_source([with_ids(values)]))
    except EtlError:
        return  # no table of it can be read
    ids = pa.array([b"user-%d\xff" % row for row in range(len(values))]).view(pa.string())
    rejects = [reject for batch in batches(open_source([with_ids(values, ids)])) for reject in batch.rejects]
    lines = [line.replace(rb'\\xff",', b'",', 1) for line in reject_lines(rejects, run=1)]
    (tmp_path / "again.ndjson").write_bytes(b"".join(lines))
    found = outcomes(open_source([tmp_path / "again.ndjson"]))
    assert len(found) == len(expected)
    assert all(one in (what, "bad_encoding") for what, one in zip(found, expected, strict=True))


@each_row("name", ["users.parquet", "users.csv"])
def test_where_a_text_is_corrected_the_other_values_stay(name: str, tmp_path: Path) -> None:
    """Also of a file whose name says that all of its values are text."""
    names = pa.array([b"M\xfcller", b"Meier"]).view(pa.string())
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), names)
    table = pa.table({"name": names, "n": [2, 2], "paid": MONEY, "seen": TIME, "names": lists})
    pq.write_table(table, tmp_path / name)
    (batch,) = open_source([tmp_path / name]).read(RowRange(0))
    (line,) = reject_lines(batch.rejects, run=1)
    (tmp_path / "again.ndjson").write_bytes(line.replace(rb"M\\xfcller", b"Meier"))
    (again,) = open_source([tmp_path / "again.ndjson"]).read(RowRange(0), used=table.schema.names)
    assert not again.text
    assert again.rows.to_pylist() == batch.rows.to_pylist()
    assert again.rows.schema.types[:4] == batch.rows.schema.types[:4]


def _property(line: Any) -> object:
    return None if line is None else line["user_properties"]["$set"]["p"]
