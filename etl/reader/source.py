"""A source: the rows of any range of its files, each with its row number, the same every time."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from ..errors import SourceError
from ..job.sections import CsvOptions, ExcelOptions
from ..model import LISTED, Batch, RowRange, SourceFile
from ..run_events import Warned
from .file_reader import FileReader, ReadOptions, RowSpan, RowSpans, split_batches
from .files import HEAD, SNIFFED, InputFile, Stopped, StoredFile, checksum, read_fully, source_errors
from .formats import recognize
from .locations import find_files, left_out_message, partitions
from .memory import TableReader, reader_of_object
from .store_file import check_versions


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of the source, its reader, and the columns that the folders above it add."""

    reader: FileReader
    file: SourceFile
    added: dict[str, str | None]
    stored: InputFile | None = None  # what is in memory has none

    @property
    def repeatable(self) -> bool:
        return (self.stored or self.reader).repeatable

    def schema(self) -> pa.Schema:
        return pa.schema([*self.reader.schema(), *(pa.field(name, pa.string()) for name in self.added)])

    def names(self) -> list[str]:
        return [*self.reader.names(), *self.added]

    def blocks(self) -> Iterator[bytes | memoryview]:
        """The bytes that are its content; not for what can be read only once."""
        if isinstance(self.reader, TableReader):
            yield from self.reader.blocks()
        elif self.stored is not None:
            with source_errors(self.file.name), closing(self.stored.open()) as stream:
                yield from iter(lambda: stream.read(HEAD), b"")

    def complete(self, rows: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
        """The rows with the folders' columns among them, in the order of `columns`."""
        own = dict(zip(rows.schema.names, rows.columns, strict=True))
        arrays = [
            pa.repeat(pa.scalar(self.added[name], pa.string()), rows.num_rows)
            if name in self.added
            else own[name]
            for name in columns
        ]
        return pa.RecordBatch.from_arrays(arrays, names=list(columns)) if arrays else rows

    def complete_originals(self, originals: pa.BinaryArray | None) -> pa.BinaryArray | None:
        """Rows as JSON objects, with the folders' columns in front."""
        if originals is None or not self.added:
            return originals
        added = orjson.dumps(self.added)[:-1]
        escaped = added.replace(b"\\", rb"\\")
        alone = pc.replace_substring_regex(originals, rb"^\s*\{\s*\}", escaped + b"}")
        whole = pc.starts_with(alone, pattern=added)
        return pc.if_else(whole, alone, pc.replace_substring_regex(alone, rb"^\s*\{", escaped + b","))


@dataclass(frozen=True, slots=True)
class Source:
    """An opened source: its files as they were when it was opened; `warnings` are about files not taken."""

    files: tuple[SourceFile, ...]
    repeatable: bool
    _entries: tuple[_Entry, ...] = field(repr=False)
    _batch_rows: int = field(repr=False)
    warnings: tuple[Warned, ...] = ()

    def schema(self, file: int = 0) -> pa.Schema:
        """Return names and types of the columns of file number `file` (0-based); CSV columns are strings."""
        return self._entries[file].schema()

    def names(self, file: int = 0) -> list[str]:
        """Return the columns of file number `file` (0-based), without looking at their types."""
        return self._entries[file].names()

    def repeated(self, file: int) -> dict[str, list[int]]:
        """Return names that file number `file` has several times, with the places (from 1) of each."""
        return dict(self._entries[file].reader.repeated)

    def remarks(self, columns: Collection[str] = ()) -> list[str]:
        """Return what is odd about the files' headers; of `columns` only, which of these may be data."""
        files = [(entry.file.name, entry.reader) for entry in self._entries]
        found = [(name, one.data_in_header(columns) if columns else one.remark()) for name, one in files]
        return [f"in {name} {remark}" for name, remark in found if remark is not None]

    def lacks(self, file: int, names: Sequence[str]) -> list[str]:
        """Return the columns that file number `file` lacks; if rows have their own columns, all rows."""
        entry = self._entries[file]
        known = set(entry.names())
        return entry.reader.lacks([name for name in names if name not in known])

    def with_columns(self, file: int, names: Sequence[str]) -> Source:
        """Return the same source, but file number `file` has these columns, too: null in each of its rows."""
        entry = self._entries[file]
        return self._with_entry(file, replace(entry, added={**entry.added, **dict.fromkeys(names)}))

    def path(self, file: int) -> Path | None:
        """Return where file number `file` is on this machine; None for what isn't a file here."""
        return None if (stored := self._entries[file].stored) is None else stored.local_path

    def kept(self, file: int, path: Path) -> Source:
        """Return the same source, but file number `file` is read from a local path, under its old name."""
        stored = StoredFile(self._entries[file].file.name, fs.LocalFileSystem(), str(path))
        return self._with_entry(file, _opened(stored, ReadOptions(batch_rows=self._batch_rows)))

    def coded(self) -> Source:
        """The same source, in which columns of few texts may be dictionaries."""
        return replace(self, _entries=tuple(replace(one, reader=one.reader.coded()) for one in self._entries))

    def _with_entry(self, file: int, entry: _Entry) -> Source:
        entries = (*self._entries[:file], entry, *self._entries[file + 1 :])
        return replace(self, _entries=entries, files=tuple(one.file for one in entries))

    @property
    def holds_rejects(self) -> bool:
        """Whether any file is a reject file: rows of earlier sources, and not all of any."""
        return any(entry.reader.holds_rejects for entry in self._entries)

    def reject_lines(self) -> Iterator[bytes]:
        """Yield the lines of the reject files. Raises SourceError."""
        for entry in self._entries:
            if entry.reader.holds_rejects:
                with source_errors(entry.file.name), closing(entry.reader.given.open()) as stream:
                    yield from io.BufferedReader(stream)

    def total_rows(self) -> int | None:
        """Return the rows of all files, if they are known without reading them; else None."""
        return _sum_if_known(entry.reader.total_rows() for entry in self._entries)

    def expected_rows(self) -> int | None:
        """Return about how many rows all files have, by the bytes that were read; None without sizes."""
        left = [entry for entry in self._entries if entry.reader.total_rows() is None]
        rows, read = (sum(entry.reader.read_so_far[place] for entry in left) for place in (0, 1))
        size = _sum_if_known(entry.file.size for entry in left)
        if size is None or not read:
            return None
        return sum(entry.reader.total_rows() or 0 for entry in self._entries) + round(size * rows / read)

    def total_bytes(self) -> int | None:
        """Return the bytes of all files as they are stored (packed or not); None if any has no size."""
        return _sum_if_known(file.size for file in self.files)

    # --- reading -----------------------------------------------------------------------------------------

    def read(
        self, row_range: RowRange, *, columns: Sequence[str] | None = None, used: Sequence[str] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows of the range, in batches that tile it and have at most `batch_rows` rows each.

        `columns` None reads all. `used` names those whose values matter: NDJSON then has these, whatever its
        other columns are, and null if a row lacks one; other files have all. SourceError at once if the
        file has no such column, and later if it can't be read or, in a source that isn't repeatable, was read
        before.
        """
        spans = [(row_range.first, row_range.stop)]
        return self.read_spans(row_range.file, spans, columns=columns, used=used)

    def read_spans(
        self,
        file: int,
        spans: Sequence[RowSpan],
        *,
        columns: Sequence[str] | None = None,
        used: Sequence[str] | None = None,
    ) -> Iterator[Batch]:
        """As `read`, of several ascending spans of one file in one pass; no batch has rows of two of them."""
        entry = self._entries[file]
        if used is not None and entry.reader.open_columns:
            return self._batches(file, RowSpans(spans), list(dict.fromkeys(used)), exact=True)
        names = entry.schema().names
        wanted = list(names if columns is None else dict.fromkeys(columns))
        if missing := sorted(set(wanted).difference(names), key=wanted.index):
            hint = f"its columns are: {', '.join(names)}" if names else "it has no columns"
            raise SourceError(f"{entry.file.name} has no column {', '.join(missing)}", hint=hint)
        return self._batches(file, RowSpans(spans), wanted, exact=False)

    def _batches(self, file: int, spans: RowSpans, columns: list[str], *, exact: bool) -> Iterator[Batch]:
        entry = self._entries[file]
        if entry.stored is not None:
            entry.stored.read_ahead()
        stored = [name for name in columns if name not in entry.added]
        found = (entry.reader.exact_batches if exact else entry.reader.batches)(spans, stored)
        for batch in split_batches(found, spans, self._batch_rows):
            yield replace(
                batch,
                source=entry.file.name,
                file=file,
                rows=entry.complete(batch.rows, columns),
                originals=entry.complete_originals(batch.originals),
            )

    def fetch(self) -> None:
        """Copy what comes from the web, all of it: a process can't use another's connection."""
        for entry in self._entries:
            if entry.stored is not None:
                entry.stored.fetch()

    def has_rows(self) -> bool | None:
        """Whether there is any row, good or bad; None for a source that would be gone then."""
        return self.count_rows(1) > 0 if self.repeatable else None

    def count_rows(self, enough: int) -> int:
        """Count the rows, good and bad ones; if they have to be read, until there are `enough`."""
        count = 0
        for file in range(len(self._entries)):
            if count < enough:
                count += self._count(file, enough - count)
        return count

    def end_of(self, rows: int) -> tuple[int, int] | None:
        """Return the place (file, row) behind the first `rows` rows; None if there is no row behind them."""
        for file in range(len(self._entries)):
            if (count := self._count(file, rows + 1)) > rows:
                return file, rows + 1
            rows -= count
        return None

    def is_empty(self, file: int) -> bool:
        """Whether a file has neither columns nor rows."""
        entry = self._entries[file]
        if entry.names():
            return False
        if entry.repeatable:
            return self._count(file, 1) == 0
        if entry.stored is None:
            return True
        with closing(entry.stored.open()) as stream:  # no more than what can be read again
            return not read_fully(stream, SNIFFED).strip()

    def _count(self, file: int, enough: int) -> int:
        """How many rows a file has; if they have to be read, at most `enough`."""
        entry = self._entries[file]
        if (rows := entry.reader.total_rows()) is not None:
            return rows
        first = entry.names()[:1]  # one column, which is what counting needs
        batches = self.read(RowRange(file, 1, enough + 1), columns=first, used=first)
        return sum(batch.stop - batch.first for batch in batches)

    # --- whether it changed ------------------------------------------------------------------------------

    def weight(self, file: int) -> int | None:
        """Return how many bytes its digest is made of; None for a file that can't be read here and now."""
        entry = self._entries[file]
        if isinstance(entry.reader, TableReader):
            return entry.reader.nbytes
        if entry.stored is not None and entry.stored.versioned:
            return 0  # the store has made it
        return None if self.path(file) is None else entry.file.size

    def digest(self, file: int, stopped: Stopped = lambda: False, *, anywhere: bool = False) -> str | None:
        """Return a digest of a whole file as it was when the source was opened; None if it has changed since.

        Also None for a file that would have to be fetched for that, unless it may be `anywhere`, and for
        what can be read only once.
        """
        entry = self._entries[file]
        stored = entry.stored
        if stored is not None and stored.versioned:
            return entry.file.sample
        if not entry.repeatable or not (stored is None or anywhere or self.path(file) is not None):
            return None
        if stored is None:
            return checksum(entry.blocks(), stopped)
        then = (entry.file.size, entry.file.modified)
        digest = checksum(entry.blocks(), stopped) if stored.state() == then else None
        return digest if stored.state() == then else None

    def sha256(self, file: int) -> str | None:
        """Return the SHA-256 of a whole file as it is stored; None for what can be read only once."""
        entry, found = self._entries[file], hashlib.sha256()
        if not entry.repeatable:
            return None
        if entry.stored is None:
            found.update(str(entry.reader.schema()).encode())
        for block in entry.blocks():
            found.update(block)
        return found.hexdigest()

    def changed(self, digests: Mapping[int, str] | None = None) -> str | None:
        """Return a sentence that tells which file changed since the source was opened, and how; or None.

        A file that was written to is the same if it has the digest that it had.
        """
        try:
            check_versions(entry.stored for entry in self._entries)
        except SourceError as error:
            return error.message
        for number, entry in enumerate(self._entries):
            stored, then = entry.stored, entry.file
            if stored is None or stored.versioned or not stored.repeatable:
                continue
            try:
                size, modified = stored.state()
                if size != then.size:
                    return f"{then.name} had {then.size} bytes when it was opened and has {size} now"
                if modified != then.modified:
                    digest = (digests or {}).get(number)
                    if digest is None or checksum(entry.blocks()) != digest:
                        return f"{then.name} was written to after it was opened"
                if entry.reader.sample() != then.sample:
                    return f"{then.name} has other content than when it was opened"
            except SourceError as error:
                return error.message
        return None


def open_source(
    locations: Sequence[object],
    *,
    csv: CsvOptions | None = None,
    excel: ExcelOptions | None = None,
    folder: Path = Path(),
    batch_rows: int = 16384,
) -> Source:
    """Find and open the files of `locations`, in the order given, and by name within folders and patterns.

    A location is a path, pattern, folder or address (str or Path, relative to `folder`), `-` for stdin, a
    DataFrame, or anything with Arrow's stream interface. A file named twice is read once.
    """
    entries: list[_Entry] = []
    seen: set[object] = set()
    warnings: list[Warned] = []
    for location in locations:
        if not isinstance(location, str | Path):
            reader = reader_of_object(location, batch_rows)
            _check_names(reader)
            file = SourceFile(reader.name, reader.format, None, None, reader.sample())
            entries.append(_Entry(reader, file, {}))
            continue
        left_out = Counter[str]()
        for stored in find_files(str(location), folder, left_out):
            if stored.identity() not in seen:
                seen.add(stored.identity())
                options = ReadOptions(csv or CsvOptions(), excel or ExcelOptions(), batch_rows)
                entries.append(_opened(stored, options))
                warnings += entries[-1].reader.warnings
        if left_out:
            warnings.append(Warned("left_out", left_out_message(str(location), left_out)))
    counts: Counter[str] = Counter()
    for place, entry in enumerate(entries):  # tables have no names of their own
        counts[entry.file.name] += 1
        if (number := counts[entry.file.name]) > 1:
            entries[place] = replace(entry, file=replace(entry.file, name=f"{entry.file.name} {number}"))
    repeatable = all(entry.repeatable for entry in entries)
    return Source(tuple(e.file for e in entries), repeatable, tuple(entries), batch_rows, tuple(warnings))


def _sum_if_known(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


def _opened(stored: InputFile, options: ReadOptions) -> _Entry:
    size, modified = stored.state()
    version = stored.version() if stored.versioned else None  # before anything is read
    given, reader_type = recognize(stored)
    reader = reader_type(given, options)
    own = _check_names(reader)
    added = {name: value for name, value in partitions(stored.name).items() if name not in own}
    file = SourceFile(stored.name, reader.format, size, modified, version or reader.sample())
    return _Entry(reader, file, added, stored)


def _check_names(reader: FileReader) -> list[str]:
    """The columns of a file; SourceError if it has one of them more than once, or is no export at all."""
    with source_errors(reader.name):
        names = reader.names()
    if reader.text and names[: len(LISTED)] == list(LISTED):
        raise SourceError(
            f"{reader.name} is a list of rejects for a spreadsheet, which may have changed its ids",
            hint="correct the rows in the export, or send the rejects as NDJSON: rejects.ndjson in the state "
            "folder, or what --rejects FILE.ndjson writes",
        )
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(
            f"{reader.name} has the column {', '.join(twice)} more than once", hint="rename all but one"
        )
    return names
