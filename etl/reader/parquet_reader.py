"""Parquet: only the columns that are asked for and the row groups that hold wanted rows are read."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import accumulate
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..arrow.layout import plain_schema, plain_type
from ..model import Batch
from .file_reader import FileReader, ReadOptions, RowSpans, rows_of_batch
from .files import HEAD, ByteRange, InputFile, TemporaryCopy, guarded, source_errors

_BUFFER: Final = 1 << 16
_TAIL: Final = 8
_GAP: Final = 1 << 20
_PIECES: Final = 4  # so large a row group is still fetched at once
_WHOLE: Final = 1.5  # and so large a file
_FEW: Final = 4096  # texts of a dictionary, in columns that take less than so many bytes a value:
_CODE_BYTES: Final = 2
# Microseconds, because the year 9999 that many exports use for "never" overflows in nanoseconds.
_SETTINGS: Final = {"pre_buffer": False, "buffer_size": _BUFFER, "coerce_int96_timestamp_unit": "us"}


class _Part(NamedTuple):
    """Row groups that are read together, the number of their first row, and where their columns are."""

    groups: list[int]
    row: int
    ranges: Sequence[ByteRange] = ()
    buffer: int = _BUFFER


class ParquetReader(FileReader):
    """Reads one Parquet file. Columns keep their types; dictionaries have those of their values."""

    format = "parquet"
    endings = ("parquet", "pq")
    claims = re.compile(rb"PAR[1E][\x00-\x1f]")
    may_be = re.compile(rb"(?s:.*\0)|(?:P(?:A(?:R1?)?)?)?\Z")  # damaged, which is reported as such; no text

    def __init__(self, input_file: InputFile, options: ReadOptions) -> None:
        super().__init__(input_file, options)
        self.codes = False
        self._file = self._seekable()
        with source_errors(self.name), closing(self._file.open()) as stream:
            opened = pq.ParquetFile(stream, **_SETTINGS)
            self._metadata, self._schema = opened.metadata, opened.schema_arrow

    def schema(self) -> pa.Schema:
        """Return the columns as they will be read."""
        return plain_schema(self._schema)

    def total_rows(self) -> int | None:
        """Return the number of rows in the footer."""
        return int(self._metadata.num_rows)

    def sample(self) -> str:
        """Return a hex digest over the footer, which has every column chunk's place, size and statistics."""
        with source_errors(self.name), closing(self._file.open()) as stream:
            size = stream.size()
            length = int.from_bytes(stream.read_at(_TAIL, size - _TAIL)[:4], "little")
            footer = stream.read_at(length + _TAIL, size - _TAIL - length)
        return hashlib.blake2b(footer, digest_size=16).hexdigest()

    def coded(self) -> ParquetReader:
        """A reader of the same file that gives columns of few texts as dictionaries."""
        found = copy.copy(self)
        found.codes = True
        return found

    def batches(self, spans: RowSpans, columns: Sequence[str], *, exact: bool = False) -> Iterator[Batch]:
        """Yield the rows of the row groups that have wanted rows."""
        parts = self._parts(spans, columns)
        with closing(self._file.open_ahead(part.ranges for part in parts)) as streams:
            for part in parts:
                found = [self._metadata.row_group(group) for group in part.groups]
                size, count = sum(one.total_byte_size for one in found), sum(one.num_rows for one in found)
                most = min(self.options.batch_rows, rows_of_batch(size, count))
                with source_errors(self.name):
                    coded = self._coded_columns(part.groups, columns) if self.codes else []
                    settings = {**_SETTINGS, "buffer_size": part.buffer, "read_dictionary": coded}
                    opened = pq.ParquetFile(next(streams), metadata=self._metadata, **settings)
                    batches = opened.iter_batches(most, part.groups, list(columns), use_threads=False)
                    batches = guarded(batches, self.name, f"in row {part.row} or after it")
                    row = part.row
                    for batch in (batch.select(list(columns)) for batch in batches):
                        if coded and _is_plain(batch, coded):
                            yield self.batch(row, _decoded(batch, coded, _FEW))
                        else:
                            yield from self.plain_batches(row, [_decoded(batch, coded) if coded else batch])
                        row += batch.num_rows

    def _coded_columns(self, groups: Sequence[int], columns: Sequence[str]) -> list[str]:
        """Those of the columns that are stored as dictionaries of few texts in all of these row groups."""
        coded = {name for name in columns if self._schema.field(name).type == pa.string()}
        for found in map(self._metadata.row_group, groups):
            chunks = {chunk.path_in_schema: chunk for chunk in map(found.column, range(found.num_columns))}
            most = _CODE_BYTES * found.num_rows
            few = {name for name, chunk in chunks.items() if chunk.total_uncompressed_size < most}
            coded &= {name for name in few if chunks[name].has_dictionary_page}
        return sorted(coded)

    def _parts(self, spans: RowSpans, columns: Sequence[str]) -> list[_Part]:
        """The row groups to read; neighbours together, as far as they are one piece for the file."""
        row, parts, piece = 1, list[_Part](), self._file.piece_bytes
        if piece is not None and (self._file.state()[0] or 0) <= _WHOLE * piece:
            piece = int(_WHOLE * piece)
        for group in range(self._metadata.num_row_groups):
            end = row + self._metadata.row_group(group).num_rows
            if any(spans.within(row, end)):
                part = _Part([group], row) if piece is None else self._piece(group, row, columns, piece)
                last = parts[-1] if parts else part
                ranges = merge_ranges([*last.ranges, *part.ranges])
                size = sum(stop - start for start, stop in ranges)
                together = last.groups[-1] == group - 1 and last.buffer == part.buffer == _BUFFER
                if together and size <= (piece or 0):
                    parts[-1] = last._replace(groups=[*last.groups, group], ranges=ranges)
                else:
                    parts.append(part)
            row = end
        return parts

    def _piece(self, group: int, row: int, columns: Sequence[str], piece: int) -> _Part:
        """One row group with the bytes of these columns; if they are too many at once, large buffers."""
        found = self._metadata.row_group(group)
        ranges, wanted = list[ByteRange](), set(columns)
        for chunk in map(found.column, range(found.num_columns)):
            paths = accumulate(chunk.path_in_schema.split("."), "{}.{}".format)
            if not wanted.isdisjoint(paths):
                start = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
                ranges.append((start, start + chunk.total_compressed_size))
        if sum(stop - start for start, stop in ranges) > _PIECES * piece:
            return _Part([group], row, [], max(_BUFFER, piece // len(ranges)))
        return _Part([group], row, merge_ranges(ranges))

    def _seekable(self) -> InputFile:
        """The file itself, or a temporary copy of what is compressed or comes through a pipe."""
        if self.input_file.repeatable and self.input_file.codec is None:
            return self.input_file
        copy = TemporaryCopy(self.name)
        with source_errors(self.name), closing(self.input_file.unpacked()) as stream:
            for chunk in iter(lambda: stream.read(HEAD), b""):
                copy.append(chunk)
        return copy


def merge_ranges(ranges: Sequence[ByteRange]) -> list[ByteRange]:
    """Merge ranges with less than `_GAP` bytes between them: reading these takes less than a request."""
    found = list[ByteRange]()
    for start, stop in sorted(ranges):
        if found and start - found[-1][1] < _GAP:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


def _is_plain(batch: pa.RecordBatch, coded: Collection[str]) -> bool:
    """Whether nothing is to be done about the batch, but for its dictionaries: its texts are valid, too."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return all(field.name in coded or plain_type(field.type) == field.type for field in batch.schema)


def _decoded(batch: pa.RecordBatch, coded: Collection[str], few: int = -1) -> pa.RecordBatch:
    """The batch with texts in place of dictionaries of more than a few texts."""
    columns = batch.columns
    for place, (name, values) in enumerate(zip(batch.schema.names, columns, strict=True)):
        if name in coded and pa.types.is_dictionary(values.type) and len(values.dictionary) > few:
            columns[place] = values.dictionary_decode()
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
