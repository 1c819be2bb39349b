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
from etl.reader.csv_reader import CsvReader
from etl.reader.file_reader import FileReader, ReadOptions, RowSpan, RowSpans
from etl.reader.files import UnpackedFile
from etl.reader.formats import recognize
from etl.reader.locations import find_files

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


def rows_of(found: Iterable[Batch]) -> dict[int, Row]:
    """Row number to values, of the good rows."""
    return {
        int(number): row
        for batch in found
        for number, row in zip(batch.numbers, batch.rows.to_pylist(), strict=True)
    }


def rejects_of(found: Iterable[Batch]) -> list[Reject]:
    return [reject for batch in found for reject in batch.rejects]


def read(
    folder: Path, data: bytes | str, name: str = "x.csv", **options: Any
) -> tuple[dict[int, Row], list[Reject]]:
    """What one file with this content holds: the good rows by number, and the rejects."""
    found = batches(opened(written(folder, name, data), **options))
    return rows_of(found), rejects_of(found)


def unpacked(path: Path) -> UnpackedFile:
    return recognize(find_files(str(path), Path())[0])[0]


def csv_reader(path: Path, block: int = 1 << 21, **options: Any) -> CsvReader:
    return CsvReader(unpacked(path), ReadOptions(CsvOptions(**options)), block)


def blocks(reader: FileReader, columns: Sequence[str], *spans: RowSpan, exact: bool = False) -> list[Batch]:
    """The batches of a reader, of all rows unless there are spans."""
    read = reader.exact_batches if exact else reader.batches
    return list(read(RowSpans(spans or [(1, None)]), columns))


def csv_batches(path: Path, block: int, **options: Any) -> list[Batch]:
    """A CSV file read with blocks of so many bytes."""
    file = csv_reader(path, block, **options)
    return blocks(file, file.schema().names)


def csv_text(rows: Sequence[Sequence[str]], **dialect: Any) -> str:
    """The rows as Python's own csv module writes them."""
    sink = io.StringIO()
    csv.writer(sink, **dialect).writerows(rows)
    return sink.getvalue()


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows)
