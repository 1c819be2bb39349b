"""A source: the rows of any range of its files, each with its row number, the same every time."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import SourceError
from ..job.sections import FileOptions
from ..model import LISTED, Batch, SourceFile
from ..run_events import Warned
from ..tally import RowRange
from .decoding import marked_encoding
from .discovery import find_files, left_out_message, partitions, recognize
from .file_reader import FileReader, ReadOptions, RowSpans, split_batches
from .files import InputFile, Stopped, StoredFile, checksum, never, source_errors
from .memory import reader_of_object
from .store_file import check_versions


@dataclass(frozen=True, slots=True)
class _Entry:
    """The reader of a file of the source, its version if it has one, and what the folders above it add."""

    reader: FileReader
    file: SourceFile
    version: str | None
    added: dict[str, str | None]

    def names(self) -> list[str]:
        return [*self.reader.names(), *self.added]

    def complete(self, batch: Batch, number: int, columns: Sequence[str]) -> Batch:
        """The batch as one of file `number`, with the folders' columns where `columns` have them."""
        rows, originals = batch.rows, batch.originals
        for name, value in self.added.items():
            rows = rows.append_column(name, pa.repeat(pa.scalar(value, pa.string()), rows.num_rows))
        if originals is not None and self.added:  # they stand in front of the others, if there are any
            added = orjson.dumps(self.added)[:-1].replace(b"\\", rb"\\")
            for first, separator in ((b'"', b","), (rb"\}", b"")):
                begin = rb"^\s*\{\s*(" + first + rb")"
                originals = pc.replace_substring_regex(originals, begin, added + separator + rb"\1")
        rows = rows.select(list(columns))
        return replace(batch, source=self.file.name, file=number, rows=rows, originals=originals)


@dataclass(frozen=True, slots=True)
class Source:
    """An opened source: its files as they were when it was opened; `warnings` are about files not taken."""

    files: tuple[SourceFile, ...]
    _entries: tuple[_Entry, ...] = field(repr=False)
    _batch_rows: int = field(repr=False)
    warnings: tuple[Warned, ...] = ()

    @property
    def repeatable(self) -> bool:
        """Whether all files can be read again and again."""
        return all(entry.reader.input_file.repeatable for entry in self._entries)

    def schema(self, file: int = 0) -> pa.Schema:
        """Return names and types of the columns of file number `file` (0-based); CSV columns are strings."""
        entry = self._entries[file]
        return pa.schema([*entry.reader.schema(), *((name, pa.string()) for name in entry.added)])

    def names(self, file: int = 0) -> list[str]:
        """Return the columns of file number `file` (0-based), without looking at their types."""
        return self._entries[file].names()

    def has_open_columns(self, file: int) -> bool:
        """Return whether each row of file number `file` has columns of its own, as in NDJSON."""
        return self._entries[file].reader.open_columns

    def repeated(self, file: int) -> dict[str, list[int]]:
        """Return names that file number `file` has several times, with the places (from 1) of each."""
        return dict(self._entries[file].reader.repeated)

    def remarks(self, columns: Collection[str] = ()) -> list[str]:
        """Describe what is odd about the headers; with `columns`, only which of these look like data."""
        found = ((entry.file.name, entry.reader.remark(columns)) for entry in self._entries)
        return [f"in {name} {remark}" for name, remark in found if remark is not None]

    def lacks(self, file: int, names: Sequence[str]) -> list[str]:
        """Return those of `names` that file number `file` lacks; in NDJSON, that no row of it has."""
        entry = self._entries[file]
        known = set(entry.names())
        return entry.reader.lacks([name for name in names if name not in known])

    def with_columns(self, file: int, names: Sequence[str]) -> Source:
        """Return the same source, but file number `file` has these columns, too: null in each of its rows."""
        entry = self._entries[file]
        return self._with_entry(file, replace(entry, added={**entry.added, **dict.fromkeys(names)}))

    def path(self, file: int) -> Path | None:
        """Return where file number `file` is on this machine; None for what isn't a file here."""
        return self._entries[file].reader.input_file.local_path

    def has_order_mark(self, file: int) -> bool:
        """Return whether file number `file` begins with a byte order mark, which says its encoding."""
        return marked_encoding(self._entries[file].reader.input_file.sniff()) is not None

    def reading_from(self, file: int, path: Path) -> Source:
        """Return the same source, but file number `file` is read from a local path, under its old name."""
        stored = StoredFile(self._entries[file].file.name, str(path))
        return self._with_entry(file, _opened(stored, ReadOptions(batch_rows=self._batch_rows)))

    def _with_entry(self, file: int, entry: _Entry) -> Source:
        entries = (*self._entries[:file], entry, *self._entries[file + 1 :])
        return replace(self, _entries=entries, files=tuple(one.file for one in entries))

    @property
    def gives_json(self) -> bool:
        """Whether a column of any file may come as JSON."""
        return any(entry.reader.gives_json for entry in self._entries)

    @property
    def holds_rejects(self) -> bool:
        """Whether any file is a reject file: rows of earlier sources, and not all of any."""
        return any(entry.reader.holds_rejects for entry in self._entries)

    def reject_lines(self) -> Iterator[bytes]:
        """Yield the lines of the reject files. Raises SourceError."""
        for entry in self._entries:
            if entry.reader.holds_rejects:
                with source_errors(entry.file.name), closing(entry.reader.input_file.unpacked()) as stream:
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
        self,
        *ranges: RowRange,
        columns: Sequence[str] | None = None,
        used: Sequence[str] | None = None,
        coded: bool = False,
    ) -> Iterator[Batch]:
        """Yield the rows of ascending ranges of one file, in one pass, in batches that tile each range.

        Ranges that overlap are one. A batch has at most `batch_rows` rows. `columns` None reads all. `used`
        names those whose values matter: NDJSON then has these, whatever its other columns are, and null if a
        row lacks one; other files have all. `coded`: columns of few texts may be dictionaries. SourceError at
        once if the file has no such column, and later if it can't be read or, in a source that isn't
        repeatable, was read before.
        """
        entry = self._entries[ranges[0].file]
        exact = used is not None and entry.reader.open_columns
        wanted = list(dict.fromkeys((used if exact else columns) or ()))
        if not exact:
            names = entry.names()
            wanted = names if columns is None else wanted
            if missing := sorted(set(wanted).difference(names), key=wanted.index):
                hint = f"its columns are: {', '.join(names)}" if names else "it has no columns"
                raise SourceError(f"{entry.file.name} has no column {', '.join(missing)}", hint=hint)
        reader = entry.reader.coded() if coded else entry.reader
        return self._batches(replace(entry, reader=reader), ranges, wanted, exact=exact)

    def _batches(
        self, entry: _Entry, ranges: Sequence[RowRange], columns: list[str], *, exact: bool
    ) -> Iterator[Batch]:
        entry.reader.input_file.read_ahead()
        stored = [name for name in columns if name not in entry.added]
        spans = RowSpans([(one.first, one.stop) for one in ranges])
        found = entry.reader.batches(spans, stored, exact=exact)
        for batch in split_batches(found, spans, self._batch_rows):
            yield entry.complete(batch, ranges[0].file, columns)

    def fetch(self) -> None:
        """Copy what comes from the web, all of it: a process can't use another's connection."""
        for entry in self._entries:
            entry.reader.input_file.fetch()

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
        given = entry.reader.input_file
        return self._count(file, 1) == 0 if given.repeatable else not given.sniff().strip()

    def _count(self, file: int, enough: int) -> int:
        """How many rows a file has; if they have to be read, at most `enough`."""
        entry = self._entries[file]
        if (rows := entry.reader.total_rows()) is not None:
            return rows
        first = entry.names()[:1]  # one column, which is what counting needs
        batches = self.read(RowRange(file, 1, enough + 1), columns=first, used=first)
        return sum(batch.stop - batch.first for batch in batches)

    # --- whether it changed ------------------------------------------------------------------------------

    def digest_bytes(self, file: int) -> int | None:
        """Return how many bytes are read for its digest; None for a file that isn't on this machine."""
        entry = self._entries[file]
        if entry.version is not None:
            return 0  # the store has made it
        return entry.reader.nbytes if self.path(file) is None else entry.file.size

    def digest(self, file: int, stopped: Stopped = never, *, anywhere: bool = False) -> str | None:
        """Return a digest of a whole file as it was when the source was opened; None if it has changed since.

        Also None for what can be read only once and, unless it may be `anywhere`, for a file that would have
        to be fetched.
        """
        entry = self._entries[file]
        given, then = entry.reader.input_file, (entry.file.size, entry.file.modified)
        if entry.version is not None:
            return entry.version
        if not given.repeatable or (self.digest_bytes(file) is None and not anywhere):
            return None
        digest = checksum(entry.reader.content(), stopped) if given.state() == then else None
        return digest if given.state() == then else None

    def sha256(self, file: int) -> str | None:
        """Return the SHA-256 of a whole file as it is stored; None for what can be read only once."""
        reader = self._entries[file].reader
        if not reader.input_file.repeatable:
            return None
        found = hashlib.sha256(b"" if reader.nbytes is None else str(reader.schema()).encode())
        for block in reader.content():
            found.update(block)
        return found.hexdigest()

    def changed(self, digests: Mapping[int, str] | None = None) -> str | None:
        """Describe which file changed since the source was opened, and how; None if none did.

        `digests` has digests of files by number: a file that was written to is unchanged if it has the same
        one.
        """
        try:
            check_versions(entry.reader.input_file for entry in self._entries)
            for number, entry in enumerate(self._entries):
                reader, then = entry.reader, entry.file
                if entry.version is not None or not reader.input_file.repeatable:
                    continue
                size, modified = reader.input_file.state()
                if size != then.size:
                    return f"{then.name} had {then.size} bytes when it was opened and has {size} now"
                if modified != then.modified:
                    digest = (digests or {}).get(number)
                    if digest is None or checksum(reader.content()) != digest:
                        return f"{then.name} was written to after it was opened"
                if reader.sample() != then.sample:
                    return f"{then.name} has other content than when it was opened"
        except SourceError as error:
            return error.message
        return None


def open_source(
    locations: Sequence[object],
    *,
    folder: Path = Path(),
    batch_rows: int = 16384,
    **options: Unpack[FileOptions],
) -> Source:
    """Find and open the files of `locations`, in the order given, and by name within folders and patterns.

    A location is a path, pattern, folder or address (str or Path, relative to `folder`), `-` for stdin, a
    DataFrame, or anything with Arrow's stream interface. A file named twice is read once. `options` are
    `Job.file_options`, or some of them.
    """
    reading = ReadOptions(**options, batch_rows=batch_rows)
    entries, seen, warnings = list[_Entry](), set[object](), list[Warned]()
    for location in locations:
        if not isinstance(location, str | Path):
            entries.append(_opened(reader_of_object(location, reading), reading))
            continue
        left_out = Counter[str]()
        for stored in find_files(str(location), folder, left_out):
            if stored.identity() not in seen:
                seen.add(stored.identity())
                entries.append(_opened(stored, reading))
                warnings += entries[-1].reader.warnings
        if left_out:
            warnings.append(Warned("left_out", left_out_message(str(location), left_out)))
    counts: Counter[str] = Counter()
    for place, entry in enumerate(entries):  # tables have no names of their own
        counts[entry.file.name] += 1
        if (number := counts[entry.file.name]) > 1:
            entries[place] = replace(entry, file=replace(entry.file, name=f"{entry.file.name} {number}"))
    return Source(tuple(entry.file for entry in entries), tuple(entries), batch_rows, tuple(warnings))


def _sum_if_known(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


def _opened(given: InputFile | FileReader, options: ReadOptions) -> _Entry:
    file = given if isinstance(given, InputFile) else given.input_file
    size, modified = file.state()
    version = file.version()  # before anything is read
    reader = recognize(given)(given, options) if isinstance(given, InputFile) else given
    own = _check_names(reader)
    added = {name: value for name, value in partitions(file.name).items() if name not in own}
    sample = version or reader.sample()
    return _Entry(reader, SourceFile(file.name, reader.format, size, modified, sample), version, added)


def _check_names(reader: FileReader) -> list[str]:
    """The columns of a file; SourceError if it has one of them more than once, or is not an export at all."""
    with source_errors(reader.name):
        names = reader.names()
    # With the delimiter of another job, it has all of its names in one.
    begin = re.split("[,;\t|]", names[0]) if len(names) == 1 else names
    if reader.text and begin[: len(LISTED)] == list(LISTED):
        what = "is a list of rejects for a spreadsheet, which may have changed its ids"
        hint = "correct the rows in the export, or send the rejects as NDJSON: "
        hint += "rejects.ndjson in the state folder, or what --rejects FILE.ndjson writes"
        raise reader.input_file.error(what, hint)
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice:
        raise reader.input_file.error(
            f"has the column {', '.join(twice)} more than once", "rename all but one"
        )
    return names
