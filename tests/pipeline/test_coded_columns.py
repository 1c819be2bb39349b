"""A look that reads columns of few texts as dictionaries finds what it would find in the texts themselves."""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import Job
from etl.model import Mapped
from etl.pipeline.job_source import JobSource
from etl.reader import open_source, parquet_reader
from etl.reader.parquet_reader import ParquetReader
from etl.snapshot import layout_of
from etl.snapshot.fingerprints import fingerprints_of
from etl.tally import RowRange
from tests.examples import examples

SPECS: tuple[dict[str, Any], ...] = (
    {},
    {"type": "string", "transform": ["trim", "upper"]},
    {"type": "integer"},
    {"type": "number", "invalid": "skip"},
    {"type": "boolean"},
    {"type": "date", "invalid": "skip"},
    {"type": "json"},
    {"type": "list", "separator": ","},
    {"nulls": ["a", "1"]},
    {"default": "7"},
    {"null": "unset"},
    {"values": {"a": 1, "1": "one"}, "invalid": "skip"},
    {"type": "json", "path": "x"},
)
TEXTS = st.sampled_from(
    ["a", "", "1", " 1.5 ", "2024-02-30", "2024-02-29", "true", '{"x": [1]}', "é,😀", "[2]", None]
)


@pytest.fixture(scope="module", autouse=True)
def every_column_is_coded() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_reader, "_CODE_BYTES", 10**6)
        yield


def found(job: Job, path: Path, *, coded: bool) -> tuple[Any, ...]:
    """What a look finds of each row, and whether a column was a dictionary."""
    rows, layout = (
        JobSource(job, open_source([path], batch_rows=5)),
        layout_of(job.identification, job.changes),
    )
    assert layout is not None
    mapped: list[Mapped] = list(rows.mapped(RowRange(0), coded=coded))
    numbers = [int(n) for some in mapped for n in some.batch.numbers[some.kept]]
    prints = [fingerprints_of(some.identifications, layout, rows.splice).tolist() for some in mapped]
    ids = [some.identifications.column("user_id").to_pylist() for some in mapped]
    rejects = [(reject, reject.faults) for some in mapped for reject in some.rejects]
    skipped = sorted(
        (one.column, one.reason, row) for some in mapped for one in some.skipped for row in one.rows.tolist()
    )
    kinds = [kind for some in mapped for kind in some.batch.rows.schema.types]
    return (numbers, [*chain(*prints)], [*chain(*ids)], rejects, skipped), any(
        map(pa.types.is_dictionary, kinds)
    )


@settings(max_examples=examples(60), deadline=None)
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=20),
    specs=st.tuples(st.sampled_from(SPECS), st.sampled_from(SPECS)),
    mode=st.sampled_from(["property", "user"]),
)
def test_a_dictionary_is_mapped_and_hashed_as_its_texts(
    rows: list[tuple[str | None, str | None]], specs: tuple[dict[str, Any], ...], mode: str
) -> None:
    first, second = ({"column": name, **spec} for name, spec in zip("vw", specs, strict=True))
    properties = {"$set": {"p": first, "q": second}}
    job = Job.of(
        {
            "identification": {"user_id": "u", "city": "w", "user_properties": properties},
            "changes": mode,
            "partial_families": "reset",
        }
    )
    # Ids are texts of a few, too: the users of an export of events.
    columns = {"u": [f"user{n % 3}" for n in range(len(rows))]}
    columns |= dict(zip("vw", map(list, zip(*rows, strict=True)), strict=True))
    table = pa.table(columns, pa.schema([(name, pa.string()) for name in "uvw"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "users.parquet")
        pq.write_table(table, path, row_group_size=12)
        coded, was_coded = found(job, path, coded=True)
        plain, was_plain = found(job, path, coded=False)
    assert coded == plain
    assert was_coded
    assert not was_plain


@pytest.mark.parametrize("few", [1, 4096])
def test_a_dictionary_of_many_texts_or_with_bad_text_comes_as_texts(
    few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_reader, "_FEW", few)
    data = np.frombuffer(b"ab\xffcd", np.uint8)
    offsets = np.array([0, 2, 3, 5], np.int32)
    bad = pa.StringArray.from_buffers(3, pa.py_buffer(offsets), pa.py_buffer(data))
    good = pa.array(["ab", "é", "cd"])
    job = Job.of({"identification": {"user_id": "u", "user_properties": {"p": "v"}}})
    for texts, rejected in ((bad, ["bad_encoding"]), (good, [])):
        path = tmp_path / "users.parquet"
        pq.write_table(pa.table({"u": ["user1", "user2", "user3"], "v": texts}), path)
        (coded, was_coded), (plain, _) = (found(job, path, coded=some) for some in (True, False))
        assert coded == plain
        assert [reject.code for reject, _ in coded[3]] == rejected
        assert was_coded == (few > 1 and not rejected)


def test_reading_a_file_of_a_folder_costs_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        pq.write_table(pa.table({"u": ["user-1"], "v": ["a"]}), tmp_path / f"{number}.parquet")
    job = Job.of({"identification": {"user_id": "u", "user_properties": {"p": "v"}}})
    asked: list[str] = []
    whole = ParquetReader.coded

    def noted(reader: ParquetReader) -> ParquetReader:
        asked.append(reader.name)
        return whole(reader)

    monkeypatch.setattr(ParquetReader, "coded", noted)
    rows = JobSource(job, open_source([tmp_path]))
    assert sum(len(mapped.kept) for mapped in rows.mapped_all(coded=True)) == 3
    assert asked == [file.name for file in rows.source.files]
