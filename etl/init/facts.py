"""What is known of a source after every row was read once, in memory that doesn't grow with the rows."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.limits import MAX_PROPERTIES, MAX_STRING_LENGTH
from ..arrow.exact_json import is_json, json_as_text
from ..job import ColumnSpec
from ..mapper.column import Column
from ..mapper.typed_values import hex_of, holds_bytes, may_hold_bytes, plain_values
from ..model import RowRange
from .id_facts import IdFacts, Values, counted_values
from .names import may_be_id
from .recognisers import are_null, date_spec, fits_by_name, fitting, is_short_word
from .type_proposals import ProposedType, Sample, propose_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from ..model import Batch
    from ..reader import Source

LOOKED_AT: Final = 2 * MAX_PROPERTIES  # columns; more are not needed to find as many properties
MOST_KEPT: Final = 20_000  # different values of a column that are kept themselves
_KEPT_IN_ALL: Final = 1_500_000
_STACKED: Final = 200_000  # values of several columns that are judged together
_EXAMPLES: Final = 1000
# A value in an object of its own, as MongoDB writes ids, times and numbers.
_WRAPPED: Final = r'^\{"(?P<key>\$\w+)":\s*"?(?P<value>[^"{}]*)"?\}$'


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
        # Where in the objects of the column its values stand.
        self.path: tuple[str, ...] = ()
        self._byte_ids: IdFacts | None = None
        self._kept = kept
        self._pieces: list[pa.Array] = []
        self._counts: NDArray[np.int64] | None = None
        self._pending = 0
        self._repeats = True
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
        if batch.text:
            self.types.setdefault("text")
            self._add_values(column, batch.numbers)
            return
        self.types.setdefault("json" if is_json(column.type) else str(column.type))
        self.untyped = False
        self._count_rejects(column, batch)
        if is_json(column.type):
            found = pc.extract_regex(column.storage, _WRAPPED)
            keys = pc.unique(pc.struct_field(found, "key").drop_null()).to_pylist()
            if len(keys) == 1 and found.null_count == column.null_count and not self.present:
                self.path, column = tuple(keys), pc.struct_field(found, "value")
            else:
                column = json_as_text(column)
        self.bytes |= holds_bytes(column.type)
        cells = hex_of(column) if self.bytes and may_hold_bytes(column.type) else plain_values(column)
        for issue in cells.issues:
            self.id_facts.lost[issue.code] += int(np.count_nonzero(issue.rows))
        self.text &= pa.types.is_string(cells.values.type) and not pa.types.is_null(column.type)
        self.nested |= pa.types.is_nested(cells.values.type)
        if may_hold_bytes(column.type):
            self._byte_ids = self._byte_ids or IdFacts(self.id_facts.prefix)
            self._byte_ids.add(counted_values([hex_of(column).values]))
        if self.nested:
            self.present += len(column) - cells.values.null_count
        else:
            self._add_values(cells.values, batch.numbers)

    def decide(self) -> None:
        """Decide after all rows whether bytes of any length are texts: they are if all of them are."""
        if self._byte_ids is not None and (self.id_facts.lost["bad_text"] or self.bytes):
            self.bytes = True
            self.id_facts, self.present, self.sample = self._byte_ids, self._byte_ids.usable, None
            self.faults.clear()
            self._for_ids.clear()

    def _add_values(self, column: pa.Array, numbers: NDArray[np.int64]) -> None:
        """Values are kept as they come, and counted once there are many."""
        self.id_facts.follow(column, numbers)
        self._pieces.append(column)
        self._pending += len(column)

    def gather(self, *, last: bool = False) -> Values | None:
        """Count the values that came, if they are many or the `last`; return what `close` must judge now."""
        if not self._pieces or (self._pending <= self._kept and not last):
            return None
        values = counted_values(self._pieces, self._counts, distinct=self._repeats)
        self._repeats = not self.closed or 2 * len(values.distinct) < self._pending
        self._pieces, self._counts, self._pending = [], None, 0
        if self.closed:
            self._try(values)
        elif last or 2 * len(values.distinct) > self._kept:
            return values
        else:
            self._pieces, self._counts = [values.distinct], values.counts
        return None

    def _measure(self, values: Values, texts: pa.StringArray) -> None:
        self.present += int(values.counts.sum())
        self.empty_texts += 0 if self.untyped else values.empty
        if self.text:
            lengths = np.array(pc.utf8_length(texts))
            self.characters += int((lengths * values.counts).sum())
            self.too_long += int(values.counts[lengths > MAX_STRING_LENGTH].sum())

    def close(self, values: Values, fits: Mapping[str, NDArray[np.bool_]]) -> None:
        """Judge the values so far. `fits` says which of them fit which recogniser that any of them fits."""
        texts = values.distinct.cast(pa.string())
        self._measure(values, texts)
        if not len(texts):
            return
        self.closed = True
        self.sample = Sample(
            self.name, texts, values.counts, fits, self.untyped or bool(self.path), self.text
        )
        self.nulls = self.sample.null_counts()
        self.proposed = propose_type(self.sample)
        self._for_ids.append(values)

    def _try(self, values: Values) -> None:
        """Try what is proposed on more values."""
        self.exact = False
        texts = values.distinct.cast(pa.string())
        self._measure(values, texts)
        spec = self.proposed.spec
        null = are_null(texts) if self.text else np.zeros(len(texts), dtype=np.bool_)
        if spec.type in {None, "integer"} and not spec.values:
            self.ids.add(values, null)
        else:
            self.ids.distinct.add(texts)
        if not self.text:
            return
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


@dataclass(slots=True)
class SourceFacts:
    """A source that was read: its rows, its columns in order, and the rows that can't be read.

    It has `width` columns; `columns` has the first ones and those that are ids by their names.
    `everywhere` has the columns that no file lacks, and `sendable` also those that are null where a file
    lacks them. `beyond_ascii` counts the texts of CSV files that have other letters than ASCII's;
    `backslashes` counts the unreadable rows that have one.
    """

    rows: int = 0
    width: int = 0
    columns: dict[str, ColumnFacts] = field(default_factory=dict)
    everywhere: frozenset[str] = frozenset()
    sendable: frozenset[str] = frozenset()
    unreadable: Counter[str] = field(default_factory=Counter)
    first_unreadable: tuple[str, int] | None = None
    beyond_ascii: int = 0
    backslashes: int = 0

    def add(self, batch: Batch, pool: ThreadPoolExecutor) -> None:
        """Count a batch; a thread of the pool counts every other column."""
        self.rows += batch.stop - batch.first
        for reject in batch.rejects:
            self.unreadable[reject.code] += 1
            self.backslashes += "\\\\" in reject.values  # one, as JSON writes it
            self.first_unreadable = self.first_unreadable or (reject.source, reject.row)
        columns = list(zip(batch.rows.schema.names, batch.rows.columns, strict=True))

        def count(every: slice) -> tuple[int, list[tuple[ColumnFacts, Values]]]:
            beyond, full = 0, []
            for name, column in columns[every]:
                if batch.text and (letters := column.buffers()[2]) and not bytes(letters).isascii():
                    beyond += pc.sum(pc.invert(pc.string_is_ascii(column))).as_py() or 0
                if (facts := self.columns.get(name)) is not None:
                    facts.add(column, batch)
                    if (values := facts.gather()) is not None:
                        full.append((facts, values))
            return beyond, full

        other = pool.submit(count, slice(1, None, 2))
        for beyond, full in (count(slice(0, None, 2)), other.result()):
            self.beyond_ascii += beyond
            _judge(full)

    def close(self) -> None:
        """Judge, after all rows, the columns that have few different values."""
        _judge(
            [
                (facts, values)
                for facts in self.columns.values()
                if (values := facts.gather(last=True)) is not None
            ]
        )
        for facts in self.columns.values():
            facts.decide()


def _judge(full: list[tuple[ColumnFacts, Values]]) -> None:
    """Judge columns of which enough is known, many of them at once."""
    stacked: list[tuple[ColumnFacts, Values]] = []
    for one in full:
        stacked.append(one)
        if sum(len(values.distinct) for _, values in stacked) > _STACKED:
            _close_together(stacked)
            stacked = []
    _close_together(stacked)


def _close_together(stacked: list[tuple[ColumnFacts, Values]]) -> None:
    for text in (True, False):
        group = [one for one in stacked if one[0].text is text and len(one[1].distinct)]
        if not group:
            continue
        # Many columns have the same values.
        encoded = pa.concat_arrays([values.distinct.cast(pa.string()) for _, values in group])
        encoded = encoded.dictionary_encode()
        codes, found = np.array(encoded.indices), fits_by_name(encoded.dictionary, numbers=not text)
        ends = np.cumsum([0, *(len(values.distinct) for _, values in group)])
        fits = {name: mask[codes] for name, mask in found.items()}
        some = {name: np.logical_or.reduceat(mask, ends[:-1]) for name, mask in fits.items()}
        for place, (facts, values) in enumerate(group):
            own = slice(ends[place], ends[place + 1])
            facts.close(values, {name: mask[own] for name, mask in fits.items() if some[name][place]})
    for facts, values in stacked:
        if not len(values.distinct):
            facts.close(values, {})


def _read_ahead(batches: Iterator[Batch], pool: ThreadPoolExecutor) -> Iterator[Batch]:
    """Yield the batches, and read the next one meanwhile."""
    coming = pool.submit(next, batches, None)
    while (batch := coming.result()) is not None:
        coming = pool.submit(next, batches, None)
        yield batch


def read_facts(
    source: Source, *, prefix: str, progress: Callable[[int, int | None], None] | None = None
) -> SourceFacts:
    """Read every row of every file. `prefix` is what short ids would get. Raises SourceError.

    `progress` is called with the rows that were read and, if it is known, how many there are.
    """
    facts = SourceFacts()
    names = [source.names(file) for file in range(len(source.files))]
    different = dict.fromkeys(name for some in names for name in some)
    facts.width = len(different)
    looked = [name for place, name in enumerate(different) if place < LOOKED_AT or may_be_id(name)]
    kept = min(MOST_KEPT, _KEPT_IN_ALL // max(1, len(looked)))
    facts.columns = {name: ColumnFacts(name, prefix, kept) for name in looked}
    named = [(frozenset(some), file.format) for some, file in zip(names, source.files, strict=True) if some]
    facts.everywhere = frozenset.intersection(*(some for some, _ in named)) if named else frozenset()
    strict = [some for some, format_ in named if format_ != "ndjson"]
    facts.sendable = frozenset(facts.columns).intersection(*strict)
    total = source.total_rows()
    with ThreadPoolExecutor(2) as pool:
        for file in range(len(source.files)):
            batches = source.read(RowRange(file), used=names[file])
            for batch in _read_ahead(batches, pool) if source.repeatable else batches:
                facts.add(batch, pool)
                if progress is not None:
                    progress(facts.rows, total)
    facts.close()
    return facts
