"""Excel and OpenDocument workbooks: the rows of one sheet, each column with the type of its cells.

calamine reads a sheet whole, so the sheet is in memory, by column. A column with cells of several kinds has
JSON values, so that a number stays a number where other cells have text.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa

from ..arrow.json_text import EXACT_FLOAT, JSON, json_column
from ..arrow.originals import JSON_ORIGIN
from ..model import Batch
from ..run_events import Warned
from ..text import counted
from .csv_reader import REPEATED_HEADER, unique_names
from .file_reader import ReadOptions, RowSpans, TableReader, reject_of, reject_rows
from .files import HEAD, InputFile, source_errors
from .ndjson_reader import SCALARS

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

_BLOCK_ROWS: Final = 8192
_TYPES: Final = {
    **SCALARS,
    frozenset({dt.date}): pa.date32(),
    frozenset({dt.datetime}): pa.timestamp("us"),
    frozenset({dt.date, dt.datetime}): pa.timestamp("us"),
    frozenset(): pa.null(),
}


class ExcelReader(TableReader):
    """Reads one sheet of a workbook: the first visible one, or the one that the job names.

    An empty cell is null, and so is one with an error such as #N/A. A row without any value isn't counted.
    """

    format = "excel"
    endings = ("xlsx", "xlsm", "xlsb", "xls", "ods")
    gives_json = True
    claims = re.compile(  # in a zip archive, or an old one
        rb"PK\x03\x04.{26}(?:\[Content_Types\]|_rels/|docProps/|xl/|mimetype.*opendocument\.spreadsheet)"
        rb"|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        re.DOTALL,
    )

    def __init__(self, input_file: InputFile, options: ReadOptions) -> None:
        super().__init__(input_file, options)
        self._digest = ""
        below = islice(self._rows(), options.excel.skip_rows, None)
        rows = (row for row in below if row.count(None) < len(row))
        header = options.excel.header
        self._header = next(rows, []) if header is None else list(header or ())
        self._first = next(rows, [])
        if header is False:
            self._header = [*range(1, len(self._first) + 1)]
        self._repeated = list[int]()
        self.table = self._read(chain([self._first] if self._first else [], rows))

    def batches(self, spans: RowSpans, columns: Sequence[str], *, exact: bool = False) -> Iterator[Batch]:
        """Yield the wanted rows; one that repeats the header is a reject."""
        header = orjson.dumps({str(name): name for name in self._header if name is not None}).decode()
        what = "repeated_header", REPEATED_HEADER, header, JSON_ORIGIN
        for batch in super().batches(spans, columns, exact=exact):
            rows = [row for row in self._repeated if batch.first <= row < batch.stop]
            yield reject_rows(batch, [reject_of(self.name, row, *what) for row in rows])

    def sample(self) -> str:
        """Return a hex digest over the ends of the file; over all of what can be read only once."""
        return super().sample() if self.input_file.repeatable else self._digest

    def remark(self, names: Collection[str] = ()) -> str | None:
        """Return why the header may be a title: the row below it has more values."""
        named, values = (sum(cell is not None for cell in row) for row in (self._header, self._first))
        if names or self.options.excel.header is not None or named >= min(values, 2):
            return None
        return (
            f"the header has {counted(named, 'name')}, and the row after it has {values} values: if "
            "rows stand above the header, say how many with `excel: {skip_rows: N}`"
        )

    # --- the workbook ------------------------------------------------------------------------------------

    def _rows(self) -> Iterator[list[Any]]:
        """The rows of the sheet to read, cells as `_value` has them; SourceError where they can't be read."""
        try:
            import python_calamine as calamine  # here, as it is an extra
        except ImportError as error:
            hint = 'install what reads workbooks: pip install "propsync[excel]"; or save the sheet as CSV'
            raise self.input_file.error("is a workbook, which needs an extra", hint) from error
        opened: Any = self.input_file.local_path if self.input_file.codec is None else None
        try:
            with source_errors(self.name):
                if opened is None:
                    with closing(self.input_file.unpacked()) as stream:
                        content = b"".join(iter(lambda: stream.read(HEAD), b""))
                    self._digest = hashlib.blake2b(content, digest_size=16).hexdigest()
                    opened = io.BytesIO(content)
                sheet = self._chosen(calamine.load_workbook(opened))
        except calamine.PasswordError as error:
            hint = "save it without a password, or save the sheet as CSV"
            raise self.input_file.error("is protected by a password", hint) from error
        except calamine.CalamineError as error:
            hint = "open it in Excel and save it as .xlsx, or save the sheet as CSV"
            raise self.input_file.error(f"can't be read as a workbook: {error}", hint) from error
        number = 1
        try:
            for row in sheet.iter_rows():
                yield list(map(_value, row))
                number += 1
        except BaseException as error:
            # calamine doesn't get past such a cell; a panic in its Rust is no Exception.
            if not isinstance(error, OverflowError) and type(error).__name__ != "PanicException":
                raise
            what = f"has a cell in row {number} whose number is too large for the date or time it is shown as"
            hint = "in Excel, format the cell as a number; or save the sheet as CSV"
            raise self.input_file.error(what, hint) from error

    def _chosen(self, book: CalamineWorkbook) -> CalamineSheet:
        wanted, listed = self.options.excel.sheet, ", ".join(book.sheet_names)
        if wanted is not None and wanted not in book.sheet_names:
            raise self.input_file.error(f"has no sheet {wanted}", f"its sheets are: {listed}")
        shown = {"SheetVisibleEnum.Visible", "SheetTypeEnum.WorkSheet"}
        visible = [one.name for one in book.sheets_metadata if {str(one.visible), str(one.typ)} == shown]
        if wanted is None and not visible:
            raise self.input_file.error("shows no sheet with cells", f"its sheets are: {listed}")
        if wanted is None and len(visible) > 1:
            text = f"{self.name} has {len(visible)} sheets, and {visible[0]} is read, which is the first"
            self.warnings = (Warned("sheets", f"{text}; choose one with `sheet`: {', '.join(visible)}"),)
        return book.get_sheet_by_name(visible[0] if wanted is None else wanted)

    def _read(self, rows: Iterator[list[Any]]) -> pa.Table:
        """All rows as a table; columns that have neither a name nor a value are left out."""
        width = max(len(self._header), len(self._first))
        self._header += [None] * (width - len(self._header))
        header = ["" if cell is None else str(cell) for cell in self._header]
        names, self.repeated = unique_names(header)
        repeated, done = None if self.options.excel.header is False else self._header, 0
        blocks = [list[pa.Array]() for _ in names]
        kinds = [set[type]() for _ in names]
        while block := list(islice(rows, _BLOCK_ROWS)):
            padded = [[*row, *[None] * (width - len(row))] for row in block]
            places = [place for place, row in enumerate(padded) if row == repeated]
            for place in places:  # names say nothing about the type of a column
                padded[place] = [None] * width
            self._repeated += [done + place + 1 for place in places]
            done += len(block)
            for place, cells in enumerate(zip(*padded, strict=True)):
                found = set(map(type, cells)) - {type(None)}
                kinds[place] |= found
                blocks[place].append(_array(cells, _TYPES.get(frozenset(found), JSON)))
        columns = {}
        for name, text, kind, arrays in zip(names, header, kinds, blocks, strict=True):
            if text.strip() or kind:
                type_ = _TYPES.get(frozenset(kind or {str}), JSON)
                columns[name] = pa.chunked_array([_array(array, type_) for array in arrays], type_)
        return pa.table(columns)


def _value(cell: Any) -> Any:
    """A cell as calamine has it as None, text, a boolean, a whole number, a float, or a date or moment."""
    match cell:
        case "":
            return None
        case float() if cell.is_integer() and abs(cell) <= EXACT_FLOAT:
            return int(cell)
        case dt.datetime():  # of days in a float: the last digits are noise
            rounded = cell + dt.timedelta(microseconds=500)
            return rounded.replace(microsecond=rounded.microsecond // 1000 * 1000)
        case dt.timedelta():
            seconds, sign = round(abs(cell).total_seconds()), "-" if cell < dt.timedelta() else ""
            return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        case dt.time():
            return cell.isoformat("seconds")
    return cell


def _array(cells: pa.Array | Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The cells of a column in one type; an array has a type that it includes."""
    if isinstance(cells, pa.Array):
        if cells.type == kind:
            return cells
        if kind != JSON:
            return cells.cast(kind)
        cells = [_value(cell) for cell in cells.to_pylist()]
    if kind == JSON:
        return json_column([None if cell is None else orjson.dumps(cell).decode() for cell in cells])
    if pa.types.is_timestamp(kind):
        cells = [dt.datetime(*cell.timetuple()[:3]) if type(cell) is dt.date else cell for cell in cells]
    return pa.array(cells, kind)
