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
from .recognisers import date_spec, fits_by_name, fitting, is_short_word, null_words
from .sample import Sample
from .type_proposals import ProposedType, propose_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..model import Batch
    from ..reader import Source

MOST_KEPT: Final = 20_000  # different values of a column that are kept themselves
_KEPT_IN_ALL: Final = 1_500_000
_STACKED: Final = 200_000  # values of several columns that are judged together
_EXAMPLES: Final = 1000
ID_CODES: Final = ("mangled_id", "refused_id", "short_id", "long_id")
KEPT_HASHES: Final = 1 << 15  # the estimate is within 1 % beyond that
# Any large number: with a small one, texts of a few control characters would share a hash.
_SEED: Final = 0xD1B54A32D192ED03
_SPAN: Final = 2.0**64
_AS_ID: Final = Column("user_id", "user_id", "id", ColumnSpec(column=""))


@dataclass(frozen=True, slots=True)
class Values:
    """Values of a column that are there: each different one, shape (d,), with how often it comes (int64).

    `column` is the part of the column that they come from, with its empty places, in rows `numbers` (int64).
    """

    distinct: pa.Array
    counts: NDArray[np.int64]
    column: pa.Array
    numbers: NDArray[np.int64]


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

    def follow(self, values: Values) -> None:
        """Look whether the values of a batch go on to count the rows."""
        if self._starts and len(values.column) == len(values.numbers):
            first = str(values.column[0].as_py())
            starts = {start for start in self._starts if first == str(int(values.numbers[0]) - 1 + start)}
            if starts:
                written = values.column.cast(pa.string())
                starts = {
                    start
                    for start in starts
                    if pc.all(pc.equal(written, pa.array(values.numbers - 1 + start).cast(pa.string()))).as_py()
                }
            self._starts = starts

    def add(self, values: Values) -> None:
        """Count more values of the column."""
        null = null_words(values.distinct) if pa.types.is_string(values.distinct.type) else None
        if null is not None and null.any():
            keep = pa.array(~null)
            values = Values(values.distinct.filter(keep), values.counts[~null], values.column, values.numbers)
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


class ColumnFacts:
    """Facts of the column called `name`.

    `types` are the types it had, in order; `text` says whether all are text, `untyped` whether all are CSV's.
    `files` are the numbers of the files it was in. `rows` were seen, `present` of them have a value, and
    `empty_texts` have an empty text where that is a value. `characters` is the length of all texts together,
    `too_long` the number of those that Amplitude would cut. `faults` counts the rows that are rejects if the
    column is mapped as it is, by code, but for text too long; `fault_place` is the first. `bytes`: the values
    are bytes and no text, and all that is known of them is known of their hexadecimal digits.

    `sample` has the different values: all of them up to `kept`, and where there are more, those that came
    first. What is `proposed` for these is then tried on all values after them, and `misfits` counts by text
    what does not fit.
    """

    def __init__(self, name: str, prefix: str, kept: int = MOST_KEPT) -> None:
        self.name = name
        self.types: dict[str, None] = {}
        self.text = True
        self.untyped = True
        self.nested = False
        self.files: set[int] = set()
        self.rows = self.present = self.too_long = self.characters = self.empty_texts = 0
        self.faults: Counter[str] = Counter()
        self.fault_place: tuple[str, int] | None = None
        self.id_facts = IdFacts(prefix)
        self.bytes = False
        self._byte_ids = IdFacts(prefix)
        self._kept = kept
        self._pieces: list[Values] = []
        self._pending = 0
        self.sample: Sample | None = None
        self.proposed = ProposedType(ColumnSpec(column=name), "text")
        self.closed = False
        self.misfits: Counter[str] = Counter()
        self.misfit_rows = self.after = 0
        self.by_part: Counter[int] = Counter()
        self.nulls: Counter[str] = Counter()
        self.exact = True
        self._for_ids: list[Values] = []

    @property
    def missing(self) -> int:
        """Rows without a value, or with a word for null."""
        return self.rows - self.present + self.nulls.total()

    @property
    def distinct(self) -> int:
        """How many different values there are, about if `exact` is false."""
        few = self.sample is not None and self.exact
        return len(self.sample.texts) - len(self.nulls) if few and self.sample else self.ids.distinct.count

    @property
    def own_nulls(self) -> tuple[str, ...]:
        """The words for null that may be values in other columns."""
        return tuple(sorted(word for word in self.nulls if is_short_word(word)))

    @property
    def ids(self) -> IdFacts:
        """The column as ids."""
        for values in self._for_ids:
            self.id_facts.add(values)
        self._for_ids.clear()
        return self.id_facts

    def likely(self, name: str, share: float = 0.9) -> bool:
        """Whether so many values fit a recogniser that this is what they are."""
        return self.sample is not None and self.sample.likely(name, share)

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
            self.id_facts.lost[issue.code] += int(np.count_nonzero(issue.rows))
        self.text &= pa.types.is_string(cells.values.type) and not pa.types.is_null(column.type)
        self.nested |= pa.types.is_nested(cells.values.type)
        if may_hold_bytes(column.type):
            self._byte_ids.add(_values_of(hex_of(column).values, batch.numbers))
        if self.nested:
            self.present += len(column) - cells.values.null_count
            return
        values = _values_of(cells.values, batch.numbers)
        found = int(values.counts.sum())
        self.present += found
        if not batch.text:
            self.empty_texts += len(column) - cells.values.null_count - found
        if found:
            self._add_values(values)

    def decide(self) -> None:
        """Decide after all rows whether bytes of any length are texts: they are if all of them are."""
        if self.id_facts.lost["bad_text"] or self.bytes:
            self.bytes = True
            self.id_facts, self.present, self.sample = self._byte_ids, self._byte_ids.usable, None
            self.faults.clear()
            self._for_ids.clear()

    def _add_values(self, values: Values) -> None:
        if self.text:
            lengths = np.array(pc.utf8_length(values.distinct))
            self.characters += int((lengths * values.counts).sum())
            self.too_long += int(values.counts[lengths > MAX_STRING_LENGTH].sum())
        self.id_facts.follow(values)
        if self.closed:
            self._try(values)
            return
        self._pieces.append(values)
        self._pending += len(values.distinct)
        if self._pending > self._kept:
            (merged,) = self._pieces = [_merged(self._pieces)]
            self._pending = len(merged.distinct)
            if self._pending > self._kept // 2:
                self.close(merged, None)

    def merged(self) -> Values | None:
        """The different values so far, or None if they were judged already or there are none."""
        return None if self.closed or not self._pieces else _merged(self._pieces)

    def close(self, values: Values, fits: Mapping[str, NDArray[np.bool_]] | None) -> None:
        """Judge the values so far. `fits` says which of them fit which recogniser, if that is known."""
        texts = values.distinct.cast(pa.string())
        if fits is None:
            fits = fits_by_name(texts, numbers=not self.text)
        self.closed, self._pieces = True, []
        self.sample = Sample(self.name, texts, values.counts, fits, self.untyped, self.text)
        self.nulls = self.sample.null_counts()
        self.proposed = propose_type(self.sample)
        self._for_ids.append(values)

    def _try(self, values: Values) -> None:
        """Try what is proposed on more values."""
        self.exact = False
        texts = values.distinct.cast(pa.string())
        spec = self.proposed.spec
        if spec.type in {None, "integer"} and not spec.values:
            self.ids.add(values)
        else:
            self.ids.distinct.add(texts)
        if not self.text:
            return
        null = null_words(texts)
        for place in np.flatnonzero(null).tolist():
            self.nulls[texts[place].as_py().strip()] += int(values.counts[place])
        self.after += int(values.counts[~null].sum())
        if spec.type is None and not spec.values:
            return
        fits = np.zeros(len(texts), dtype=np.bool_)
        for part, (name, _) in enumerate(self.proposed.parts):
            read = fitting(texts, date_spec([name])) & ~fits & ~null
            fits |= read
            self.by_part[part] += int(values.counts[read].sum())
        if not self.proposed.parts:
            fits = fitting(texts, spec)
        bad = np.flatnonzero(~(fits | null))
        self.misfit_rows += int(values.counts[bad].sum())
        for place in bad[: max(0, _EXAMPLES - len(self.misfits))].tolist():
            self.misfits[texts[place].as_py()] += int(values.counts[place])

    def _count_rejects(self, column: pa.Array, batch: Batch) -> None:
        """Count what the mapper rejects if the column is mapped as it is."""
        spec = ColumnSpec(column=self.name, too_long="truncate")
        for issue in Column("", "", "value", spec).read(column, len(column), text=False).issues:
            self.faults[issue.code] += int(np.count_nonzero(issue.rows))
            if self.fault_place is None:
                self.fault_place = batch.source, int(batch.numbers[np.flatnonzero(issue.rows)[0]])


def _values_of(column: pa.Array, numbers: NDArray[np.int64]) -> Values:
    """The values of a column that are neither null nor empty text, in rows `numbers`. Not for nested types."""
    counted = column.value_counts()
    distinct, counts = counted.field("values"), np.array(counted.field("counts"))
    keep = distinct.is_valid()
    if pa.types.is_string(column.type):
        keep = pc.and_(keep, pc.not_equal(distinct, "")).fill_null(False)
    if pc.all(keep, min_count=0).as_py():
        return Values(distinct, counts, column, numbers)
    return Values(distinct.filter(keep), counts[np.array(keep)], column, numbers)


def _merged(pieces: list[Values]) -> Values:
    """The values of all pieces, each once."""
    if len(pieces) == 1:
        return pieces[0]
    kinds = {piece.distinct.type for piece in pieces}
    arrays = [piece.distinct if len(kinds) == 1 else piece.distinct.cast(pa.string()) for piece in pieces]
    encoded = pa.concat_arrays(arrays).dictionary_encode()
    counts = np.bincount(
        np.array(encoded.indices), np.concatenate([piece.counts for piece in pieces]), len(encoded.dictionary)
    )
    return Values(encoded.dictionary, counts.astype(np.int64), pieces[0].column, pieces[0].numbers)


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
            if batch.text and self.beyond_ascii < _EXAMPLES * _EXAMPLES and not _is_ascii(column):
                self.beyond_ascii += pc.sum(pc.invert(pc.string_is_ascii(column))).as_py() or 0

    def close(self) -> None:
        """Judge, after all rows, the columns that have few different values: many of them at once."""
        stacked: list[tuple[ColumnFacts, Values]] = []
        size = 0
        waiting = [(facts, values) for facts in self.columns.values() if (values := facts.merged())]
        for number, (facts, values) in enumerate(waiting):
            stacked.append((facts, values))
            size += len(values.distinct)
            if size > _STACKED or number == len(waiting) - 1:
                for text in (True, False):
                    _close_together([one for one in stacked if one[0].text is text], text=text)
                stacked, size = [], 0
        for facts in self.columns.values():
            facts.decide()


def _is_ascii(column: pa.Array) -> bool:
    letters = column.buffers()[2]
    return letters is None or not (np.frombuffer(letters, np.uint8) & 0x80).any()


def _close_together(stacked: list[tuple[ColumnFacts, Values]], *, text: bool) -> None:
    if not stacked:
        return
    texts = pa.concat_arrays([values.distinct.cast(pa.string()) for _, values in stacked])
    fits = fits_by_name(texts, numbers=not text)
    at = 0
    for facts, values in stacked:
        stop = at + len(values.distinct)
        own = {name: mask[at:stop] for name, mask in fits.items() if mask[at:stop].any()}
        facts.close(values, own)
        at = stop


def read_facts(
    source: Source, *, prefix: str, progress: Callable[[int, int | None], None] | None = None
) -> SourceFacts:
    """Read every row of every file. `prefix` is what short ids would get. Raises SourceError.

    `progress` is called with the rows that were read and, if it is known, how many there are.
    """
    facts = SourceFacts()
    names = [source.names(file) for file in range(len(source.files))]
    different = dict.fromkeys(name for some in names for name in some)
    kept = max(50, min(MOST_KEPT, _KEPT_IN_ALL // max(1, len(different))))
    for name in different:
        facts.columns[name] = ColumnFacts(name, prefix, kept)
    named = [(frozenset(some), file.format) for some, file in zip(names, source.files, strict=True) if some]
    facts.everywhere = frozenset.intersection(*(some for some, _ in named)) if named else frozenset()
    strict = [some for some, format_ in named if format_ != "ndjson"]
    facts.sendable = frozenset(facts.columns).intersection(*strict)
    total = source.total_rows()
    for file in range(len(source.files)):
        for batch in source.read(RowRange(file), used=names[file]):
            facts.add(batch)
            if progress is not None:
                progress(facts.rows, total)
    facts.close()
    return facts
