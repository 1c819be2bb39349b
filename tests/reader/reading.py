"""Small words for the tests: write a file, open it, read it."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import xlsxwriter

from etl.job.sections import CsvOptions
from etl.model import Batch, Reject
from etl.reader import Source, open_source
from etl.reader.csv_reader import CsvReader
from etl.reader.discovery import find_files, recognize
from etl.reader.file_reader import FileReader, ReadOptions, RowSpans
from etl.reader.files import InputFile
from etl.tally import RowRange

Row = dict[str, Any]


def written(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def workbook(path: Path, *sheets: Sequence[Sequence[Any]]) -> Path:
    """A workbook with sheets called One, Two and so on; an Exception is a cell with that error."""
    with xlsxwriter.Workbook(path) as book:
        kinds = {
            dt.date: "dd.mm.yyyy",
            dt.datetime: "yyyy-mm-dd hh:mm",
            dt.time: "hh:mm",
            dt.timedelta: "[h]:mm",
        }
        formats = {kind: book.add_format({"num_format": text}) for kind, text in kinds.items()}
        for name, rows in zip(("One", "Two", "Three"), sheets, strict=False):
            sheet = book.add_worksheet(name)
            for place, cell in ((at, cell) for at, row in enumerate(rows) for cell in enumerate(row)):
                if isinstance(cell[1], Exception):
                    sheet.write_formula(place, cell[0], "=NA()", None, str(cell[1]))
                elif cell[1] is not None:
                    sheet.write(place, *cell, formats.get(type(cell[1])))
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


def unpacked(path: Path) -> InputFile:
    (file,) = find_files(str(path), Path())
    recognize(file)
    return file


def csv_reader(path: Path, block: int = 1 << 21, **options: Any) -> CsvReader:
    return CsvReader(unpacked(path), ReadOptions(CsvOptions(**options)), block)


def blocks(
    reader: FileReader, columns: Sequence[str], *spans: tuple[int, int | None], exact: bool = False
) -> list[Batch]:
    """The batches of a reader, of all rows unless there are spans."""
    return list(reader.batches(RowSpans(spans or [(1, None)]), columns, exact=exact))


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
