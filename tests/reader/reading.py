"""Small words for the tests: write a file, open it, read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from etl.job.spec import CsvOptions
from etl.model import Batch, Reject, RowRange
from etl.reader import Source, open_source
from etl.reader.csv_file import CsvFile
from etl.reader.formats import recognise
from etl.reader.locations import find
from etl.reader.pieces import Piece

Row = dict[str, Any]


def written(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def opened(path: Path, **options: Any) -> Source:
    return open_source([path], csv=CsvOptions(**options))


def batches(source: Source, file: int = 0, first: int = 1, stop: int | None = None) -> list[Batch]:
    return list(source.read(RowRange(file, first, stop)))


def rows_of(found: Iterable[Batch | Piece]) -> dict[int, Row]:
    """Row number to values, of the good rows."""
    return {
        int(number): row
        for batch in found
        for number, row in zip(batch.numbers, batch.rows.to_pylist(), strict=True)
    }


def rejects_of(found: Iterable[Batch | Piece]) -> list[Reject]:
    return [reject for batch in found for reject in batch.rejects]


def read(
    folder: Path, data: bytes | str, name: str = "x.csv", **options: Any
) -> tuple[dict[int, Row], list[Reject]]:
    """What one file with this content holds: the good rows by number, and the rejects."""
    found = batches(opened(written(folder, name, data), **options))
    return rows_of(found), rejects_of(found)


def csv_pieces(path: Path, block: int, **options: Any) -> list[Piece]:
    """A CSV file read with blocks of so many bytes."""
    file = CsvFile(recognise(find(str(path), Path())[0]), CsvOptions(**options), block)
    return list(file.pieces(1, None, file.schema().names))


def csv_text(rows: Sequence[Sequence[str]], **dialect: Any) -> str:
    """The rows as Python's own csv module writes them."""
    sink = io.StringIO()
    csv.writer(sink, **dialect).writerows(rows)
    return sink.getvalue()


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows)
