"""What is known of one column after every row was seen, in memory that doesn't grow with the rows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import MAX_STRING_LENGTH
from etl.arrow.json_type import is_json, json_as_text
from etl.init.date_formats import FORMATS, LIKE_A_DATE
from etl.init.id_facts import IdFacts
from etl.init.readings import SHAPES, TYPES, Trial
from etl.init.values import Values, values_of
from etl.job import ColumnSpec
from etl.mapper.byte_texts import hex_of, holds_bytes, may_hold_bytes
from etl.mapper.column import Column
from etl.mapper.plain import plain

if TYPE_CHECKING:
    from etl.model import Batch

WORDS: Final = 12  # different values that are remembered themselves


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
        self.types_tried = {name: Trial(reading) for name, reading in TYPES.items()}
        self.shapes = {name: Trial(reading) for name, reading in SHAPES.items()}
        self.formats = {name: Trial(reading) for name, reading in FORMATS.items()}

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.rows - self.present

    @property
    def distinct(self) -> int:
        """How many different values there are, about."""
        return self.ids.distinct.count

    def add(self, column: pa.Array, batch: Batch) -> None:
        """Take in the column's part of a batch."""
        self.rows += len(column)
        self.files.add(batch.file)
        kind = "json" if is_json(column.type) else str(column.type)
        self.types.setdefault("text" if batch.text else kind)
        self.untyped &= batch.text
        if not batch.text:
            self._check(column, batch)
        if is_json(column.type):
            column = json_as_text(column)
        self.bytes |= holds_bytes(column.type)
        cells = hex_of(column) if self.bytes and may_hold_bytes(column.type) else plain(column)
        for fault in cells.faults:
            self.ids.lost[fault.code] += int(np.count_nonzero(fault.rows))
        is_text = pa.types.is_string(cells.values.type) and not pa.types.is_null(column.type)
        self.text &= is_text
        self.nested |= pa.types.is_nested(cells.values.type)
        if may_hold_bytes(column.type):
            self._byte_ids.add(values_of(hex_of(column).values, batch))
        if self.nested:
            self.present += len(column) - cells.values.null_count
            self.words = None
            return
        values = values_of(cells.values, batch)
        self.present += len(values.codes)
        if not batch.text:
            self.empty_texts += len(column) - cells.values.null_count - len(values.codes)
        if len(values.codes):
            self._take_in(values, is_text=is_text)

    def decide(self) -> None:
        """Say after all rows whether bytes of any length are texts: they are if all of them are."""
        if self.ids.lost["bad_text"] or self.bytes:
            self.bytes = True
            self.ids, self.present, self.words = self._byte_ids, self._byte_ids.usable, None
            self.faults.clear()

    def _take_in(self, values: Values, *, is_text: bool) -> None:
        self.ids.add(values)
        texts = values.distinct.cast(pa.string())
        self._remember(texts)
        texts_only = Values(values.source, texts, values.codes, values.counts, values.numbers)
        if is_text:
            self._measure(texts_only)
            for trial in (*self.types_tried.values(), *self.shapes.values()):
                trial.add(texts_only)
            dates = pc.any(pc.match_substring_regex(texts, LIKE_A_DATE)).as_py()
            for trial in self.formats.values():
                trial.add(texts_only) if dates else trial.miss(texts_only)
        else:
            self.shapes["card"].add(texts_only)

    def _check(self, column: pa.Array, batch: Batch) -> None:
        """Count what the mapper turns away if the column is mapped as it is."""
        spec = ColumnSpec(column=self.name, too_long="truncate")
        cells = Column("", "", "value", spec).read(column, len(column), text=False)
        for fault in cells.faults:
            self.faults[fault.code] += int(np.count_nonzero(fault.rows))
            if self.fault_place is None:
                self.fault_place = batch.source, int(batch.numbers[np.flatnonzero(fault.rows)[0]])

    def _measure(self, values: Values) -> None:
        lengths = pc.utf8_length(values.distinct).to_numpy(zero_copy_only=False)
        self.longest = max(self.longest, int(lengths.max()))
        self.characters += int((lengths * values.counts).sum())
        self.too_long += int(values.counts[lengths > MAX_STRING_LENGTH].sum())

    def _remember(self, texts: pa.StringArray) -> None:
        if self.words is None:
            return
        self.words.update(texts.slice(0, WORDS + 1).to_pylist())
        if len(self.words) > WORDS:
            self.words = None
