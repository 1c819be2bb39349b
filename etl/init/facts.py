"""Facts of a source and its columns, from one reading of all rows, in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.requests import MAX_PROPERTIES, MAX_STRING_LENGTH
from ..arrow.json_text import is_json, json_as_text
from ..arrow.layout import text_layout
from ..job.column_spec import ColumnSpec
from ..job.problems import clipped
from ..mapper.column import Column
from ..mapper.typed_values import hex_of, holds_bytes, may_hold_bytes, plain_values
from ..tally import RowRange
from ..text import counted
from .id_facts import IdFacts, Values, counted_values, id_prefix
from .names import id_name, is_device_id
from .recognisers import are_null, date_spec, fits_by_name, fitting, is_short_word
from .type_proposals import ProposedType, Sample, propose_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ..model import Batch
    from ..reader import Source
    from .recognisers import Mask

LOOKED_AT: Final = 2 * MAX_PROPERTIES  # columns; more are not needed to find as many properties
MOST_KEPT: Final = 20_000  # different values of a column that are kept themselves
_KEPT_IN_ALL: Final = 1_500_000
_STACKED: Final = 200_000  # values of several columns that are judged together
_EXAMPLES: Final = 1000
_BEYOND_ASCII: Final = 0x80
_AHEAD_BYTES: Final = 4 << 20  # of batches that are read while one is counted; columns fill up every few
# Called with the rows that were read, and how many there are if that is known.
ReadProgress: TypeAlias = "Callable[[int, int | None], None]"
# A value in an object of its own, as MongoDB writes ids, times and numbers.
_WRAPPED: Final = r'^\{"(?P<key>\$\w+)":\s*"?(?P<value>[^"{}]*)"?\}$'


class ColumnFacts:
    """Facts of the column called `name`.

    `types` are the types it had, in order; `text` says whether all are text, `untyped` whether all are CSV's.
    `rows` were seen, `present` of them have a value, and `empty_texts` have an empty text where that is a
    value. `characters` is the length of all texts together, `too_long` the number of those that Amplitude
    would cut. `faults` counts the rows that are rejects if the column is mapped as it is, by code, but for
    text too long; `fault_place` is the first. `bytes`: the values are bytes and no text, and all that is
    known of them is known of their hexadecimal digits. `path` is where in the objects of the column its
    values stand.

    `sample` has the different values: all of them up to `kept`, and where there are more, those that came
    first. What is `proposed` for these is then tried on all values that aren't `nulls`. `misfits` of them
    don't fit, with examples in `misfit_texts`; `by_part` counts those that each part reads. `ids_known`: the
    column was counted as ids to the end.
    """

    def __init__(self, name: str, prefix: str, kept: int = MOST_KEPT, *, count_ids: bool = False) -> None:
        self.name = name
        self.types: dict[str, None] = {}
        self.text = self.untyped = self.exact = self.ids_known = True
        self.nested = self.bytes = False
        self.rows = self.present = self.too_long = self.characters = self.empty_texts = 0
        self.faults, self.nulls, self.misfit_texts = Counter[str](), Counter[str](), Counter[str]()
        self.fault_place: tuple[str, int] | None = None
        self.path: tuple[str, ...] = ()
        self.sample = Sample(name)
        self.proposed = ProposedType(ColumnSpec(column=name), "text")
        self.misfits, self.by_part = 0, Counter[int]()
        self._count_ids = count_ids or id_name(name) is not None or is_device_id(name)
        self._ids = IdFacts(prefix)
        self._for_ids: list[tuple[Values, Mask]] = []
        self._byte_ids = IdFacts(prefix)
        self._kept = kept
        self._pieces: list[pa.Array] = []
        self._counts: NDArray[np.int64] | None = None
        self._pending = 0
        self._repeats = True

    @property
    def missing(self) -> int:
        """Rows without a value, or with a word for null."""
        return self.rows - self.present + self.nulls.total()

    @property
    def distinct(self) -> int:
        """How many different values there are, about if `exact` is false."""
        few = len(self.sample.texts) if self.exact else 0
        return few - len(self.nulls) if few else self.ids.distinct.count

    @property
    def own_nulls(self) -> tuple[str, ...]:
        """The words for null that may be values in other columns."""
        return tuple(sorted(word for word in self.nulls if is_short_word(word)))

    @property
    def padded(self) -> bool:
        """Whether most values have spaces around them, as in exports of columns of a fixed width."""
        texts = self.sample.texts
        spaced = pc.not_equal(texts, pc.utf8_trim_whitespace(texts)).to_numpy(zero_copy_only=False)
        return self.sample.total < 2 * self.sample.weight(spaced)

    @property
    def as_text(self) -> ColumnSpec:
        """The spec that sends the values as text."""
        return ColumnSpec(
            column=self.name,
            path=self.path,
            too_long="truncate" if self.too_long else "reject",
            nulls=self.own_nulls,
        )

    @property
    def ids(self) -> IdFacts:
        """The column as ids."""
        while self._for_ids:
            self._ids.add(*self._for_ids.pop())
        return self._ids

    def add(self, column: pa.Array, batch: Batch) -> Values | None:
        """Count the column's part of a batch; return the values so far if they are to be judged now."""
        self.rows += len(column)
        self.types.setdefault("text" if batch.text else "json" if is_json(column.type) else str(column.type))
        if not batch.text:
            column = self._plain(column, batch)
        if self.nested:
            self.present += len(column) - column.null_count
            return None
        self._ids.follow(column, batch.numbers)
        self._pieces.append(column)
        self._pending += len(column)
        return self.gather() if self._pending > self._kept else None

    def _plain(self, column: pa.Array, batch: Batch) -> pa.Array:
        """Plain values of a typed column, whose faults are counted."""
        self.untyped = False
        spec = ColumnSpec(column=self.name, too_long="truncate")
        for issue in Column((), "", "value", spec).read(column, len(column), text=False).issues:
            self.faults[issue.code] += int(np.count_nonzero(issue.rows))
            if self.fault_place is None:
                self.fault_place = batch.source, int(batch.numbers[np.flatnonzero(issue.rows)[0]])
        if is_json(column.type):
            found = pc.extract_regex(column.storage, _WRAPPED)
            keys = pc.unique(pc.struct_field(found, "key").drop_null()).to_pylist()
            if len(keys) == 1 and found.null_count == column.null_count and not self.present:
                self.path, column = tuple(keys), pc.struct_field(found, "value")
            else:
                column = json_as_text(column)
        if may_hold_bytes(column.type):
            self._byte_ids.add(counted_values([hex_of(column).values]))
        self.bytes |= holds_bytes(column.type)
        cells = hex_of(column) if self.bytes and may_hold_bytes(column.type) else plain_values(column)
        for issue in cells.issues:
            self._ids.lost[issue.code] += int(np.count_nonzero(issue.rows))
        self.text &= pa.types.is_string(cells.values.type) and not pa.types.is_null(column.type)
        self.nested |= pa.types.is_nested(cells.values.type)
        return cells.values

    def gather(self, *, last: bool = False) -> Values | None:
        """Count the values that came; return all so far if they are many, or the `last`, and not judged."""
        if not self._pieces:
            return None
        values = counted_values(self._pieces, self._counts, distinct=self._repeats)
        self.empty_texts += 0 if self.untyped else values.empty
        judged = len(self.sample.texts) > 0
        self._repeats = not judged or 2 * len(values.distinct) < self._pending
        self._pieces, self._counts, self._pending = [], None, 0
        if judged:
            self.exact = False
            self._count(values)
        elif len(values.distinct) > (0 if last else self._kept // 2):
            return values
        else:
            self._pieces, self._counts = [values.distinct], values.counts
        return None

    def judge(self, values: Values, fits: Mapping[str, Mask]) -> None:
        """Judge the values so far. `fits` says which of them fit which recogniser that any of them fits."""
        texts, untyped = values.distinct.cast(pa.string()), self.untyped or bool(self.path)
        self.sample = Sample(self.name, texts, values.counts, fits, untyped, self.text)
        self.proposed = propose_type(self.sample)
        self._count(values)

    def _count(self, values: Values) -> None:
        """Count values, and try on them what is proposed."""
        texts, counts, spec = values.distinct.cast(pa.string()), values.counts, self.proposed.spec
        self.present += int(counts.sum())
        null = are_null(texts, codes=self.sample.codes) if self.text else np.zeros(len(texts), np.bool_)
        plain = spec.type is None and not spec.values
        if self.exact:
            self._for_ids.append((values, null))
        elif plain or self._count_ids:
            self.ids.add(values, null)
        else:
            self.ids_known = False
            self.ids.distinct.add(texts)
        if not self.text:
            return
        ascii_ = text_layout(texts)[2].max(initial=0) < _BEYOND_ASCII
        lengths = np.array((pc.binary_length if ascii_ else pc.utf8_length)(texts))
        self.characters += int((lengths * counts).sum())
        self.too_long += int(counts[lengths > MAX_STRING_LENGTH].sum())
        for place in np.flatnonzero(null).tolist():
            self.nulls[texts[place].as_py().strip()] += int(counts[place])
        if plain or (self.exact and self.proposed.whole and not self.proposed.parts):
            return
        fits = np.zeros(len(texts), dtype=np.bool_)
        for part, name in enumerate(self.proposed.parts):
            read = fitting(texts, date_spec([name])) & ~fits & ~null
            fits |= read
            self.by_part[part] += int(counts[read].sum())
        bad = np.flatnonzero(~((fits if self.proposed.parts else fitting(texts, spec)) | null))
        self.misfits += int(counts[bad].sum())
        for place in bad[: max(0, _EXAMPLES - len(self.misfit_texts))].tolist():
            self.misfit_texts[texts[place].as_py()] += int(counts[place])

    def decide(self) -> None:
        """Decide after all rows whether bytes of any length are texts: they are if all of them are."""
        if self._byte_ids.usable and (self._ids.lost["bad_text"] or self.bytes):
            self.bytes = True
            self._ids, self.present = self._byte_ids, self._byte_ids.usable
            self.sample = Sample(self.name)
            self.faults.clear()
            self._for_ids.clear()


@dataclass(slots=True)
class SourceFacts:
    """A source that was read: its rows, its columns in order, and the rows that can't be read.

    It has `width` columns; `columns` has the first ones and those that are ids by their names. `everywhere`
    has the columns that no file lacks, and `sendable` also those that are null where a file lacks them.
    `beyond_ascii` counts the texts of CSV files that have other letters than ASCII's; `backslashes` counts
    the unreadable rows that have one. `prefix` is what short ids would get.
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
    prefix: str = ""

    @property
    def unreadable_rows(self) -> str | None:
        """A sentence about the rows that can't be read; None if there are none."""
        if self.first_unreadable is None:
            return None
        name, row = self.first_unreadable
        codes = ", ".join(f"{count:,} {code}" for code, count in sorted(self.unreadable.items()))
        total = counted(self.unreadable.total(), "row")
        first = f"the first is row {row:,} of {clipped(name)}"
        return f"{total} can't be read and will be rejected ({codes}; {first})"

    def add(self, batch: Batch, pool: ThreadPoolExecutor) -> None:
        """Count a batch; a thread of the pool takes columns in turns with this one."""
        self.rows += batch.stop - batch.first
        for reject in batch.rejects:
            self.unreadable[reject.code] += 1
            self.backslashes += "\\\\" in reject.values  # one, as JSON writes it
            self.first_unreadable = self.first_unreadable or (reject.source, reject.row)
        columns = iter(list(zip(batch.rows.schema.names, batch.rows.columns, strict=True)))

        def count() -> tuple[int, list[tuple[ColumnFacts, Values]]]:
            beyond, full = 0, []
            for name, column in columns:
                if batch.text and (letters := column.buffers()[2]) and not bytes(letters).isascii():
                    beyond += pc.sum(pc.invert(pc.string_is_ascii(column))).as_py() or 0
                facts = self.columns.get(name)
                if facts is not None and (values := facts.add(column, batch)) is not None:
                    full.append((facts, values))
            return beyond, full

        other = pool.submit(count)
        for beyond, full in (count(), other.result()):
            self.beyond_ascii += beyond
            _judge(full)

    def close(self) -> None:
        """Judge, after all rows, the columns that have few different values."""
        rest = [(facts, facts.gather(last=True)) for facts in self.columns.values()]
        _judge([(facts, values) for facts, values in rest if values is not None])
        for facts in self.columns.values():
            facts.decide()


def _judge(full: Sequence[tuple[ColumnFacts, Values]]) -> None:
    """Judge columns of which enough is known, many of them at once, as many have the same values."""
    full = sorted(full, key=lambda one: one[0].text)
    parts = zip(full, accumulate(len(values.distinct) for _, values in full), strict=True)
    for (text, _), some in groupby(parts, lambda part: (part[0][0].text, part[1] // _STACKED)):
        group = [one for one, _ in some]
        encoded = pa.concat_arrays([values.distinct.cast(pa.string()) for _, values in group])
        encoded = encoded.dictionary_encode()
        codes, found = np.array(encoded.indices), fits_by_name(encoded.dictionary, numbers=not text)
        ends = np.cumsum([0, *(len(values.distinct) for _, values in group)])
        fits = {name: mask[codes] for name, mask in found.items()}
        there = {name: np.logical_or.reduceat(mask, ends[:-1]) for name, mask in fits.items()}
        for place, (facts, values) in enumerate(group):
            own = slice(ends[place], ends[place + 1])
            facts.judge(values, {name: mask[own] for name, mask in fits.items() if there[name][place]})


def _read_ahead(batches: Iterator[Batch], reader: ThreadPoolExecutor) -> Iterator[Batch]:
    """Yield the batches, and read the next ones meanwhile."""
    coming = deque([reader.submit(next, batches, None)])
    while (batch := coming.popleft().result()) is not None:
        while len(coming) <= _AHEAD_BYTES // max(batch.rows.nbytes, _AHEAD_BYTES // 8):
            coming.append(reader.submit(next, batches, None))
        yield batch


def read_facts(
    source: Source, *, progress: ReadProgress | None = None, count_ids: bool = False
) -> SourceFacts:
    """Read every row of every file. Raises SourceError.

    `count_ids`: all columns are counted as ids, also those that are hardly any.
    """
    facts = SourceFacts(prefix=id_prefix(source))
    names = [source.names(file) for file in range(len(source.files))]
    different = dict.fromkeys(name for some in names for name in some)
    facts.width = len(different)
    ids = {name for name in different if id_name(name) not in {None, "other"} or is_device_id(name)}
    looked = [name for place, name in enumerate(different) if place < LOOKED_AT or name in ids]
    kept = min(MOST_KEPT, _KEPT_IN_ALL // max(1, len(looked)))
    count_ids = count_ids or not source.repeatable
    facts.columns = {name: ColumnFacts(name, facts.prefix, kept, count_ids=count_ids) for name in looked}
    named = [(some, file) for file, some in enumerate(names) if some]
    facts.everywhere = frozenset(different).intersection(*(some for some, _ in named))
    strict = [some for some, file in named if not source.has_open_columns(file)]
    facts.sendable = frozenset(facts.columns).intersection(*strict)
    total = source.total_rows()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as pool:
        for file in range(len(source.files)):
            batches = source.read(RowRange(file), used=names[file])
            for batch in _read_ahead(batches, reader) if source.repeatable else batches:
                facts.add(batch, pool)
                if progress is not None:
                    progress(facts.rows, total)
    facts.close()
    return facts
