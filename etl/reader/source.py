"""A source hands out the rows of any range of its files, each with its place, the same every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from etl.errors import SourceError
from etl.job.spec import CsvOptions
from etl.model import Batch, Format, RowRange, SourceFile, Warned
from etl.reader import pieces
from etl.reader.csv_file import CsvFile
from etl.reader.digest import Stopped, batches_digest, current_digest, is_local, place_digest
from etl.reader.faults import translated
from etl.reader.formats import recognise
from etl.reader.locations import find, left_out_sentence, partitions
from etl.reader.memory import MemoryStream, MemoryTable, from_memory
from etl.reader.ndjson_file import NdjsonFile
from etl.reader.parquet_file import ParquetFile
from etl.reader.pieces import Piece
from etl.reader.places import SNIFFED, Place, Stored, exactly, sample
from etl.reader.spans import Span, Spans
from etl.reader.web import Web

if TYPE_CHECKING:
    from etl.reader.formats import Input


class _Pieces(Protocol):
    def __call__(
        self, first: int, stop: int | None, columns: Sequence[str], *, spans: Spans | None = None
    ) -> Iterator[Piece]: ...


class Content(Protocol):
    """What every format can do with one file."""

    @property
    def format(self) -> Format:
        """What the file is written in."""

    @property
    def text(self) -> bool:
        """Whether the values are untyped text in which an empty field means null."""

    def schema(self) -> pa.Schema:
        """The columns that `pieces` may be asked for."""

    def total_rows(self) -> int | None:
        """The number of rows where it is known without reading them."""

    def pieces(
        self, first: int, stop: int | None, columns: Sequence[str], *, spans: Spans | None = None
    ) -> Iterator[Piece]:
        """Ascending pieces with at least the rows `first` to `stop - 1`, of these columns in this order.

        `spans` are taken instead where given; the file is gone through once for all of them.
        """


@runtime_checkable
class OpenContent(Content, Protocol):
    """What files can do whose rows say themselves which columns they have."""

    def names(self) -> list[str]:
        """The columns, as far as they are known without reading everything."""

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Which of the columns no row has, as far as that can be known."""

    def exact_pieces(
        self, first: int, stop: int | None, columns: Sequence[str], *, spans: Spans | None = None
    ) -> Iterator[Piece]:
        """As `pieces`, of columns with any names, and no value depends on other columns or rows."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of the source, where it comes from, and the columns that the folders above it add."""

    content: Content
    file: SourceFile
    added: dict[str, str | None]
    place: Place | None = None

    def schema(self) -> pa.Schema:
        extra = [(name, pa.string()) for name in self.added]
        return pa.schema([*self.content.schema(), *pa.schema(extra)])

    def names(self) -> list[str]:
        own = self.content.names() if isinstance(self.content, OpenContent) else self.content.schema().names
        return [*own, *self.added]

    def completed(self, rows: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
        """The rows with the folders' columns among them, in the order of `columns`."""
        arrays = [
            pa.array([self.added[name]], pa.string()).take(pa.nulls(rows.num_rows, pa.int64()).fill_null(0))
            if name in self.added
            else rows.column(name)
            for name in columns
        ]
        return pa.RecordBatch.from_arrays(arrays, names=list(columns)) if arrays else rows

    def completed_originals(self, originals: pa.BinaryArray | None) -> pa.BinaryArray | None:
        """Rows as JSON objects, with the folders' columns in front."""
        if originals is None or not self.added:
            return originals
        added = orjson.dumps(self.added)[:-1]
        alone = pc.replace_substring_regex(originals, rb"^\s*\{\s*\}", added.replace(b"\\", rb"\\") + b"}")
        begin = added.replace(b"\\", rb"\\") + b","
        whole = pc.starts_with(alone, pattern=added)
        return pc.if_else(whole, alone, pc.replace_substring_regex(alone, rb"^\s*\{", begin))


@dataclass(frozen=True, slots=True)
class Source:
    """An opened source: its files in order, as they were when it was opened.

    `warnings` are what a user should know of how they were found.
    """

    files: tuple[SourceFile, ...]
    repeatable: bool
    _entries: tuple[_Entry, ...] = field(repr=False)
    _batch_rows: int = field(repr=False)
    warnings: tuple[Warned, ...] = ()

    def schema(self, file: int = 0) -> pa.Schema:
        """Names and types of the columns of file number `file` (0-based); CSV columns are strings."""
        return self._entries[file].schema()

    def with_columns(self, file: int, names: Sequence[str]) -> Source:
        """The same source, but file number `file` has these columns, too: null in each of its rows."""
        entries = list(self._entries)
        added = {**entries[file].added, **dict.fromkeys(names)}
        entries[file] = replace(entries[file], added=added)
        return replace(self, _entries=tuple(entries))

    def path(self, file: int) -> Path | None:
        """Where file number `file` is on this machine; None for what isn't a file here."""
        place = self._entries[file].place
        local = isinstance(place, Stored) and place.system.type_name == "local"
        return Path(place.path).resolve() if isinstance(place, Stored) and local else None

    def kept(self, file: int, path: Path) -> Source:
        """The same source, but file number `file` is read from a local path, under the name that it has."""
        entries, before = list(self._entries), self._entries[file]
        place = Stored(before.file.name, fs.LocalFileSystem(), str(path))
        entries[file] = _opened(place, CsvOptions(), self._batch_rows)
        files = tuple(entry.file for entry in entries)
        return replace(self, _entries=tuple(entries), files=files)

    @property
    def holds_rejects(self) -> bool:
        """Whether any file is a reject file: rows of earlier sources, and not all of any."""
        return any(isinstance(e.content, NdjsonFile) and e.content.holds_rejects for e in self._entries)

    def total_rows(self) -> int | None:
        """The rows of all files if every file tells without being read, else None."""
        counts = [entry.content.total_rows() for entry in self._entries]
        return None if None in counts else sum(count or 0 for count in counts)

    def total_bytes(self) -> int | None:
        """The bytes of all files as they are stored (packed or not); None if any has no size."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def names(self, file: int = 0) -> list[str]:
        """The columns of file number `file` (0-based), without looking at their types."""
        return self._entries[file].names()

    def repeated(self, file: int) -> dict[str, list[int]]:
        """Names that file number `file` has several times, each with the places (from 1) of these columns."""
        return dict(getattr(self._entries[file].content, "repeated", {}))

    def remarks(self) -> list[str]:
        """What is odd about the files' headers, for those whose columns aren't in them."""
        found = (
            (entry.file.name, entry.content.remark())
            for entry in self._entries
            if isinstance(entry.content, CsvFile)
        )
        return [f"in {name} {remark}" for name, remark in found if remark is not None]

    def lacks(self, file: int, names: Sequence[str]) -> list[str]:
        """Which of the columns file number `file` doesn't have; where rows say what they have, in no row."""
        entry = self._entries[file]
        left = [name for name in names if name not in entry.names()]
        return entry.content.lacks(left) if isinstance(entry.content, OpenContent) else left

    def read(
        self, row_range: RowRange, *, columns: Sequence[str] | None = None, used: Sequence[str] | None = None
    ) -> Iterator[Batch]:
        """The rows of the range, in batches that tile it and have at most `batch_rows` rows each.

        `columns` None reads all. `used` names those whose values matter: NDJSON then has these, whatever its
        other columns are, and null where a row lacks one; other files have all. SourceError at once if the
        file has no such column, and later if it can't be read or, in a source that isn't repeatable, was read
        before.
        """
        return self.read_spans(
            row_range.file, [(row_range.first, row_range.stop)], columns=columns, used=used
        )

    def read_spans(
        self,
        file: int,
        spans: Sequence[Span],
        *,
        columns: Sequence[str] | None = None,
        used: Sequence[str] | None = None,
    ) -> Iterator[Batch]:
        """As `read`, of several ascending spans of one file in one pass; no batch has rows of two of them."""
        entry, wanted = self._entries[file], Spans(spans)
        if used is not None and isinstance(entry.content, OpenContent):
            return self._batches(file, wanted, list(dict.fromkeys(used)), entry.content.exact_pieces)
        return self._batches(file, wanted, _known(entry, columns), entry.content.pieces)

    def _batches(self, file: int, spans: Spans, columns: list[str], pieces_of: _Pieces) -> Iterator[Batch]:
        entry = self._entries[file]
        stored = [name for name in columns if name not in entry.added]
        found = pieces_of(1, None, stored, spans=spans)
        for piece in pieces.cut(found, 1, None, self._batch_rows, spans=spans):
            yield Batch(
                source=entry.file.name,
                file=file,
                first=piece.first,
                stop=piece.stop,
                numbers=piece.numbers,
                rows=entry.completed(piece.rows, columns),
                rejects=piece.rejects,
                text=entry.content.text if piece.text is None else piece.text,
                runs=piece.runs,
                originals=entry.completed_originals(piece.originals),
            )

    def fetch(self) -> None:
        """Copy what comes from the web, all of it: a process can't go on with another's connection."""
        for entry in self._entries:
            if isinstance(entry.place, Web):
                entry.place.fetch()

    def has_rows(self) -> bool | None:
        """Whether there is any row, good or bad; None for a source that would be gone then."""
        if not self.repeatable:
            return None
        return any(self._begins(file) for file in range(len(self._entries)))

    def count_rows(self, enough: int) -> int:
        """How many rows there are, good and bad ones; where they have to be read, until it is `enough`."""
        count = 0
        for number, entry in enumerate(self._entries):
            rows = entry.content.total_rows()
            if rows is None:
                for batch in self._counted(RowRange(number)):
                    count += batch.stop - batch.first
                    if count >= enough:
                        return count
            count += rows or 0
        return count

    def weight(self, file: int) -> int | None:
        """How many bytes its digest is made of; None for a file that can't be read here and now."""
        entry = self._entries[file]
        if isinstance(entry.content, MemoryTable):
            return entry.content.nbytes
        return entry.file.size if entry.place is not None and is_local(entry.place) else None

    def is_empty(self, file: int) -> bool:
        """Whether a file has neither columns nor rows."""
        entry = self._entries[file]
        if entry.names():
            return False
        if entry.place is None or entry.place.repeatable:
            return isinstance(entry.content, MemoryStream) or not self._begins(file)
        with closing(entry.place.open()) as stream:  # no more than what can be read again
            return not exactly(stream, SNIFFED).strip()

    def digest(self, file: int, stopped: Stopped = lambda: False, *, anywhere: bool = False) -> str | None:
        """A digest of all of a file, as it was when the source was opened; None where it isn't that any more.

        Also None for a file that would have to be fetched for that, unless it may be `anywhere`, and for
        what can be read only once.
        """
        entry = self._entries[file]
        if isinstance(entry.content, MemoryTable):
            return batches_digest(entry.content.batches(), stopped)
        if entry.place is None or not entry.place.repeatable or not (anywhere or is_local(entry.place)):
            return None
        return place_digest(entry.place, entry.file, stopped)

    def changed(self, digests: Mapping[int, str] | None = None) -> str | None:
        """A sentence that says which file is not what it was when the source was opened, and how; or None.

        A file that was written to is the same if it has the digest that it had.
        """
        known = digests or {}
        changes = (_change(entry, known.get(number)) for number, entry in enumerate(self._entries))
        return next((change for change in changes if change is not None), None)

    def _begins(self, file: int) -> bool:
        rows = self._entries[file].content.total_rows()
        if rows is not None:
            return rows > 0
        with closing(self._counted(RowRange(file, 1, 2))) as batches:
            return any(batch.stop > batch.first for batch in batches)

    def _counted(self, row_range: RowRange) -> Generator[Batch, None, None]:
        """The rows with no more than one column, which is what counting needs."""
        first = self._entries[row_range.file].names()[:1]
        yield from self.read(row_range, columns=first, used=first)


def open_source(
    locations: Sequence[object],
    *,
    csv: CsvOptions | None = None,
    folder: Path = Path(),
    batch_rows: int = 16384,
) -> Source:
    """Find and open what `locations` name, in the order given, and by name within folders and patterns.

    A location is a path, pattern, folder or address (str or Path, relative to `folder`), `-` for stdin, a
    DataFrame, or anything with Arrow's stream interface. A file named twice is read once.
    """
    entries: list[_Entry] = []
    seen: set[object] = set()
    warnings: list[Warned] = []
    for location in locations:
        if not isinstance(location, str | Path):
            entries.append(_in_memory(location, batch_rows))
            continue
        left_out = Counter[str]()
        for place in find(str(location), folder, left_out):
            if _identity(place) not in seen:
                seen.add(_identity(place))
                entries.append(_opened(place, csv or CsvOptions(), batch_rows))
        if left_out:
            warnings.append(Warned("left_out", left_out_sentence(str(location), left_out)))
    entries = _told_apart(entries)
    files = tuple(entry.file for entry in entries)
    repeatable = all(getattr(entry.place or entry.content, "repeatable", True) for entry in entries)
    return Source(files, repeatable, tuple(entries), batch_rows, tuple(warnings))


def _change(entry: _Entry, digest: str | None) -> str | None:
    place, then = entry.place, entry.file
    if place is None or not place.repeatable:
        return None
    try:
        size, modified = place.state()
        if size != then.size:
            return f"{then.name} had {then.size} bytes when it was opened and has {size} now"
        if modified != then.modified and (digest is None or current_digest(place) != digest):
            return f"{then.name} was written to after it was opened"
        if _sample(entry.content, place) != then.sample:
            return f"{then.name} has other content than when it was opened"
    except SourceError as error:
        return error.message
    return None


def _opened(place: Place, csv: CsvOptions, batch_rows: int) -> _Entry:
    size, modified = place.state()
    content = _content(recognise(place), csv, batch_rows)
    own = _column_names(place.name, content)
    added = {name: value for name, value in partitions(place.name).items() if name not in own}
    file = SourceFile(place.name, content.format, size, modified, _sample(content, place))
    return _Entry(content, file, added, place)


def _content(given: Input, csv: CsvOptions, batch_rows: int) -> Content:
    if given.format == "parquet":
        return ParquetFile(given, batch_rows)
    return NdjsonFile(given) if given.format == "ndjson" else CsvFile(given, csv)


def _in_memory(given: object, batch_rows: int) -> _Entry:
    content = from_memory(given, batch_rows)
    _column_names(content.name, content)
    return _Entry(content, SourceFile(content.name, content.format, None, None, content.sample()), {})


def _sample(content: Content, place: Place) -> str:
    return content.sample() if isinstance(content, ParquetFile) else sample(place)


def _identity(place: Place) -> object:
    if isinstance(place, Stored):
        local = place.system.type_name == "local"
        return place.system.type_name, Path(place.path).resolve() if local else place.path
    return place.name


def _told_apart(entries: list[_Entry]) -> list[_Entry]:
    """Tables have no names of their own, so those after the first are numbered."""
    counts: Counter[str] = Counter()
    result = []
    for entry in entries:
        counts[entry.file.name] += 1
        number = counts[entry.file.name]
        name = entry.file.name if number == 1 else f"{entry.file.name} {number}"
        result.append(replace(entry, file=replace(entry.file, name=name)))
    return result


def _column_names(name: str, content: Content) -> list[str]:
    with translated(name):
        names = content.names() if isinstance(content, OpenContent) else content.schema().names
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(
            f"{name} has the column {', '.join(twice)} more than once", hint="rename all but one"
        )
    return names


def _known(entry: _Entry, columns: Sequence[str] | None) -> list[str]:
    names = entry.schema().names
    missing = [column for column in columns or () if column not in names]
    if missing:
        hint = f"its columns are: {', '.join(names)}" if names else "it has no columns"
        raise SourceError(f"{entry.file.name} has no column {', '.join(missing)}", hint=hint)
    return list(names if columns is None else dict.fromkeys(columns))
