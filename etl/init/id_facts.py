"""What Amplitude would think of a column's values as ids, asked of the mapper itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import MAX_ID_LENGTH
from etl.init.sketch import Distinct
from etl.job import ColumnSpec
from etl.mapper.column import Column
from etl.mapper.rejects import quote

if TYPE_CHECKING:
    from etl.init.values import Values

ID_CODES: Final = ("mangled_id", "refused_id", "short_id", "long_id")
_AS_ID: Final = Column("user_id", "user_id", "id", ColumnSpec(column=""))


@dataclass(slots=True)
class IdFacts:
    """A column as ids, over all rows read so far.

    `faults` counts rows with an id that is turned away by reject code; `refused` counts those of
    refused ids by the id. `mangled` counts the rows of mangled ids by what is wrong with them, each with an
    example. `counts_rows`: every value so far is the number of its row, from 1 or from 0.
    """

    prefix: str
    usable: int = 0  # rows that have an id, good or not
    lost: Counter[str] = field(default_factory=Counter)  # rows whose value can't be written as an id, by code
    spaced: int = 0  # of these, rows whose id has a blank in it
    too_long_with_prefix: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    mangled: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    distinct: Distinct = field(default_factory=Distinct)
    _off: set[int] = field(default_factory=lambda: {0, 1})

    @property
    def counts_rows(self) -> bool:
        """Whether the ids do no more than count the rows of one file."""
        return self.usable > 0 and bool(self._off)

    def add(self, values: Values) -> None:
        """Take in more values of the column."""
        cells = _AS_ID.read(values.distinct, len(values.distinct), text=True)
        ids, counts = cells.values, values.counts
        self.distinct.add(ids.drop_null())
        self.usable += int(counts[_mask(ids.is_valid())].sum())
        self.spaced += int(counts[_mask(pc.match_substring(ids, " "))].sum())
        lengths = pc.utf8_length(ids)
        self.too_long_with_prefix += int(
            counts[_mask(pc.greater(lengths, MAX_ID_LENGTH - len(self.prefix)))].sum()
        )
        found = np.zeros(len(ids), dtype=np.bool_)
        for fault in cells.faults:
            rows = fault.rows & ~found
            found |= fault.rows
            counter = self.faults if fault.code in ID_CODES else self.lost
            counter[fault.code] += int(counts[rows].sum())
            if fault.code == "refused_id":
                self._note_refused(ids, counts, rows)
            if fault.code == "mangled_id" and rows.any():
                self.mangled[fault.says] += int(counts[rows].sum())
                self.examples.setdefault(fault.says, quote(ids, int(np.flatnonzero(rows)[0])))
        self._count(ids, values)

    def _note_refused(self, ids: pa.Array, counts: np.ndarray, rows: np.ndarray) -> None:
        for place in np.flatnonzero(rows).tolist():
            self.refused[ids[place].as_py()] += int(counts[place])

    def _count(self, ids: pa.Array, values: Values) -> None:
        if not self._off:
            return
        written = ids.take(pa.array(values.codes))
        self._off = {
            off
            for off in self._off
            if pc.all(pc.equal(written, pa.array(values.numbers - 1 + off).cast(pa.string()))).as_py()
        }


def _mask(marks: pa.Array) -> np.ndarray:
    mask: np.ndarray = marks.fill_null(False).to_numpy(zero_copy_only=False)
    return mask
