"""Rejects sent again: every value arrives as it would have from the source itself, whatever that was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl.checkpoint import publish_rejects
from etl.errors import EtlError
from etl.job.spec import ColumnSpec
from etl.mapper import Mapper
from etl.model import Batch, Reject, Stretch
from etl.reader import Source, open_source
from etl.values import originals, shown_rows
from tests.mapper.mapping import sent, setting
from tests.mapper.zoo import ZOO

MAPPER = Mapper(setting(ColumnSpec(column="v")))


def batches(source: Source) -> list[Batch]:
    return [
        batch
        for file in range(len(source.files))
        for batch in source.read(Stretch(file), used=MAPPER.columns)
    ]


def outcomes(source: Source) -> list[Any]:
    """What is sent of each row, or its reject's code."""
    found: list[tuple[int, int, Any]] = []
    for batch in batches(source):
        mapped = MAPPER.map(batch)
        rows = mapped.batch.numbers[mapped.kept].tolist()
        found += [(batch.file, row, one) for row, one in zip(rows, sent(mapped), strict=True)]
        found += [(batch.file, reject.row, reject.code) for reject in mapped.rejects]
    return [what for _, _, what in sorted(found, key=lambda entry: entry[:2])]


def refused(source: Source) -> list[Reject]:
    """All readable rows of a source, as if the server had refused each."""
    found = []
    for batch in batches(source):
        shown = originals(
            shown_rows(batch),
            range(batch.rows.num_rows),
            source=batch.source,
            text=batch.text,
            keep_empty=MAPPER.keep_empty,
        )
        found += [
            Reject(batch.source, row, "malformed", "refused", one.values, origin=one.origin)
            for row, one in zip(batch.numbers.tolist(), shown, strict=True)
        ]
    return found


def sent_again(source: Source, folder: Path, generations: int = 2) -> Source:
    for generation in range(generations):
        path = folder / f"rejects-{generation}.ndjson"
        publish_rejects(path, refused(source), run=1)
        source = open_source([path])
    return source


def with_ids(values: pa.Array) -> pa.Table:
    ids = pa.array([f"user-{row}" for row in range(len(values))])
    return pa.Table.from_arrays([ids, values], names=["u", "v"])


@pytest.mark.parametrize("kind", ZOO)
def test_values_of_any_arrow_type_arrive_as_from_the_table(kind: str, tmp_path: Path) -> None:
    try:
        source = open_source([with_ids(ZOO[kind][0])])
        readable = [what for what in outcomes(source) if what != "bad_encoding"]
    except EtlError:
        pytest.skip("no table of it can be read")
    assert outcomes(sent_again(source, tmp_path)) == readable
