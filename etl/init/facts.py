"""What is known of a source after every row was read once, in memory that doesn't grow with the rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.limits import MAX_ID_LENGTH, MAX_STRING_LENGTH
from ..arrow.exact_json import is_json, json_as_text
from ..arrow.hashing import hash_texts
from ..job import ColumnSpec
from ..mapper.column import Column
from ..mapper.column_values import quote_value
from ..mapper.typed_values import hex_of, holds_bytes, may_hold_bytes, plain_values
from ..model import RowRange
from .text_types import DATE_FORMATS, LIKE_A_DATE, SHAPES, TYPES, Trial, Values

if TYPE_CHECKING:
    from ..model import Batch
    from ..reader import Source

WORDS: Final = 12  # different values that are remembered themselves
ID_CODES: Final = ("mangled_id", "refused_id", "short_id", "long_id")
KEPT_HASHES: Final = 1 << 15  # the estimate is within 1 % beyond that
# Any large number: with a small one, texts of a few control characters would share a hash.
_SEED: Final = 0xD1B54A32D192ED03
_SPAN: Final = 2.0**64
_AS_ID: Final = Column("user_id", "user_id", "id", ColumnSpec(column=""))


class DistinctCounter:
    """Counts different texts by the smallest of their hashes, exactly while there are few.

    `exact` says whether `count` is no estimate.
    """

    def __init__(self, kept: int = KEPT_HASHES) -> None:
        self._kept = kept
        self._hashes = np.empty(0, dtype=np.uint64)
        self.exact = True

    def add(self, texts: pa.StringArray) -> None:
        """Count texts of shape (n,), none of them null or empty."""
        hashes = hash_texts(texts, _SEED)
        if not self.exact:
            hashes = hashes[hashes < self._hashes[-1]]
        together = np.union1d(self._hashes, hashes)
        self.exact = self.exact and len(together) <= self._kept
        self._hashes = together[: self._kept]

    @property
    def count(self) -> int:
        """How many different texts there were."""
        if self.exact:
            return len(self._hashes)
        return round((self._kept - 1) * _SPAN / float(self._hashes[-1]))


@dataclass(slots=True)
class IdFacts:
    """A column as ids, over all rows read so far, as the mapper would have them.

    `usable` rows have an id, good or not; `spaced` of these have a blank in it. `lost` counts the rows whose
    value can't be an id by reject code, `faults` those with an id that is rejected. `refused` counts the rows
    of refused ids by the id; `mangled` those of mangled ids by what is wrong, each with an example.
    """

    prefix: str
    usable: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    spaced: int = 0
    too_long_with_prefix: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    mangled: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    distinct: DistinctCounter = field(default_factory=DistinctCounter)
    # Where the ids may begin to count the rows.
    _starts: set[int] = field(default_factory=lambda: {0, 1})

    @property
    def counts_rows(self) -> bool:
        """Whether every id is the number of its row, from 1 or from 0."""
        return self.usable > 0 and bool(self._starts)

    @property
    def repeat(self) -> bool:
        """Whether ids come more than once; an estimate of their number must be clear about it."""
        return self.distinct.count < self.usable * (1.0 if self.distinct.exact else 0.97)

    def add(self, values: Values) -> None:
        """Count more values of the column."""
        cells = _AS_ID.read(values.distinct, len(values.distinct), text=True)
        ids, counts = cells.values, values.counts

        def rows_of(marks: pa.Array) -> int:
            return int(counts[marks.fill_null(False).to_numpy(zero_copy_only=False)].sum())

        self.distinct.add(ids.drop_null())
        self.usable += rows_of(ids.is_valid())
        self.spaced += rows_of(pc.match_substring(ids, " "))
        self.too_long_with_prefix += rows_of(
            pc.greater(pc.utf8_length(ids), MAX_ID_LENGTH - len(self.prefix))
        )
        found = np.zeros(len(ids), dtype=np.bool_)
        for issue in cells.issues:
            rows = issue.rows & ~found
            found |= issue.rows
            counter = self.faults if issue.code in ID_CODES else self.lost
            counter[issue.code] += int(counts[rows].sum())
            if issue.code == "refused_id":
                for place in np.flatnonzero(rows).tolist():
                    self.refused[ids[place].as_py()] += int(counts[place])
            if issue.code == "mangled_id" and rows.any():
                self.mangled[issue.message] += int(counts[rows].sum())
                self.examples.setdefault(issue.message, quote_value(ids, int(np.flatnonzero(rows)[0])))
        if self._starts:
            written = ids.take(pa.array(values.codes))
            self._starts = {
                start
                for start in self._starts
                if pc.all(pc.equal(written, pa.array(values.numbers - 1 + start).cast(pa.string()))).as_py()
            }


class ColumnFacts:
    """Facts of the column called `name`.

    `types` are the types it had, in order; `text` says whether all are text, `untyped` whether all are CSV's.
    `files` are the numbers of the files it was in. `rows` were seen, `present` of them have a value, and
    `empty_texts` have an empty text where that is a value. `characters` is the length of all texts together,
    `too_long` the number of those that Amplitude would cut. `faults` counts the rows that are rejects if the
    column is mapped as it is, by code, but for text too long; `fault_place` is the first. `words` are the
    different values, or None where there are too many or they are nested. `bytes`: the values are bytes and
    no text, and all that is known of them is known of their hexadecimal digits.
    """

    def __init__(self, name: str, prefix: str) -> None:
        self.name = name
        self.types: dict[str, None] = {}
        self.text = True
        self.untyped = True
        self.nested = False
        self.files: set[int] = set()
        self.rows = self.present = self.longest = self.too_long = self.characters = self.empty_texts = 0
        self.faults: Counter[str] = Counter()
        self.fault_place: tuple[str, int] | None = None
        self.words: set[str] | None = set()
        self.ids = IdFacts(prefix)
        self.bytes = False
        self._byte_ids = IdFacts(prefix)
        self.types_tried = {name: Trial(text_type) for name, text_type in TYPES.items()}
        self.shapes = {name: Trial(text_type) for name, text_type in SHAPES.items()}
        self.formats = {name: Trial(text_type) for name, text_type in DATE_FORMATS.items()}

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.rows - self.present

    @property
    def distinct(self) -> int:
        """How many different values there are, about."""
        return self.ids.distinct.count

    def add(self, column: pa.Array, batch: Batch) -> None:
        """Count the column's part of a batch."""
        self.rows += len(column)
        self.files.add(batch.file)
        type_ = "json" if is_json(column.type) else str(column.type)
        self.types.setdefault("text" if batch.text else type_)
        self.untyped &= batch.text
        if not batch.text:
            self._count_rejects(column, batch)
        if is_json(column.type):
            column = json_as_text(column)
        self.bytes |= holds_bytes(column.type)
        cells = hex_of(column) if self.bytes and may_hold_bytes(column.type) else plain_values(column)
        for issue in cells.issues:
            self.ids.lost[issue.code] += int(np.count_nonzero(issue.rows))
        is_text = pa.types.is_string(cells.values.type) and not pa.types.is_null(column.type)
        self.text &= is_text
        self.nested |= pa.types.is_nested(cells.values.type)
        if may_hold_bytes(column.type):
            self._byte_ids.add(_values_of(hex_of(column).values, batch))
        if self.nested:
            self.present += len(column) - cells.values.null_count
            self.words = None
            return
        values = _values_of(cells.values, batch)
        self.present += len(values.codes)
        if not batch.text:
            self.empty_texts += len(column) - cells.values.null_count - len(values.codes)
        if len(values.codes):
            self._add_values(values, is_text=is_text)

    def decide(self) -> None:
        """Decide after all rows whether bytes of any length are texts: they are if all of them are."""
        if self.ids.lost["bad_text"] or self.bytes:
            self.bytes = True
            self.ids, self.present, self.words = self._byte_ids, self._byte_ids.usable, None
            self.faults.clear()

    def _add_values(self, values: Values, *, is_text: bool) -> None:
        self.ids.add(values)
        texts = values.distinct.cast(pa.string())
        if self.words is not None:
            self.words.update(texts.slice(0, WORDS + 1).to_pylist())
            self.words = self.words if len(self.words) <= WORDS else None
        as_texts = Values(values.source, texts, values.codes, values.counts, values.numbers)
        if not is_text:
            self.shapes["card"].add(as_texts)
            return
        lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
        self.longest = max(self.longest, int(lengths.max()))
        self.characters += int((lengths * values.counts).sum())
        self.too_long += int(values.counts[lengths > MAX_STRING_LENGTH].sum())
        for trial in (*self.types_tried.values(), *self.shapes.values()):
            trial.add(as_texts)
        dates = pc.any(pc.match_substring_regex(texts, LIKE_A_DATE)).as_py()
        for trial in self.formats.values():
            trial.add(as_texts) if dates else trial.miss(as_texts)

    def _count_rejects(self, column: pa.Array, batch: Batch) -> None:
        """Count what the mapper rejects if the column is mapped as it is."""
        spec = ColumnSpec(column=self.name, too_long="truncate")
        for issue in Column("", "", "value", spec).read(column, len(column), text=False).issues:
            self.faults[issue.code] += int(np.count_nonzero(issue.rows))
            if self.fault_place is None:
                self.fault_place = batch.source, int(batch.numbers[np.flatnonzero(issue.rows)[0]])


def _values_of(column: pa.Array, batch: Batch) -> Values:
    """The values of a column of the batch that are neither null nor empty text. Not for nested types."""
    present = column.is_valid()
    if pa.types.is_string(column.type):
        present = pc.and_(present, pc.not_equal(column, "")).fill_null(False)
    encoded = column.filter(present).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Values(
        batch.source,
        encoded.dictionary,
        codes,
        np.bincount(codes, minlength=len(encoded.dictionary)),
        batch.numbers[present.to_numpy(zero_copy_only=False)],
    )


@dataclass(slots=True)
class SourceFacts:
    """A source that was read: its rows, its columns in order, and the rows that can't be read.

    `everywhere` has the columns that no file lacks, and `sendable` also those that are null where a file
    lacks them. `beyond_ascii` counts the texts of CSV files that have other letters than ASCII's;
    `backslashes` counts the unreadable rows that have one.
    """

    rows: int = 0
    columns: dict[str, ColumnFacts] = field(default_factory=dict)
    everywhere: frozenset[str] = frozenset()
    sendable: frozenset[str] = frozenset()
    unreadable: Counter[str] = field(default_factory=Counter)
    first_unreadable: tuple[str, int] | None = None
    beyond_ascii: int = 0
    backslashes: int = 0

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.rows += batch.stop - batch.first
        for reject in batch.rejects:
            self.unreadable[reject.code] += 1
            self.backslashes += "\\\\" in reject.values  # one, as JSON writes it
            self.first_unreadable = self.first_unreadable or (reject.source, reject.row)
        for name, column in zip(batch.rows.schema.names, batch.rows.columns, strict=True):
            self.columns[name].add(column, batch)
            if batch.text:
                self.beyond_ascii += pc.sum(pc.invert(pc.string_is_ascii(column))).as_py() or 0


def read_facts(source: Source, *, prefix: str) -> SourceFacts:
    """Read every row of every file. `prefix` is what short ids would get. Raises SourceError."""
    facts = SourceFacts()
    names = [source.names(file) for file in range(len(source.files))]
    for name in dict.fromkeys(name for some in names for name in some):
        facts.columns[name] = ColumnFacts(name, prefix)
    named = [(frozenset(some), file.format) for some, file in zip(names, source.files, strict=True) if some]
    facts.everywhere = frozenset.intersection(*(some for some, _ in named)) if named else frozenset()
    strict = [some for some, format_ in named if format_ != "ndjson"]
    facts.sendable = frozenset(facts.columns).intersection(*strict)
    for file in range(len(source.files)):
        for batch in source.read(RowRange(file), used=names[file]):
            facts.add(batch)
    for column in facts.columns.values():
        column.decide()
    return facts
