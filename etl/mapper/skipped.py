"""Values that don't fit and are left out of their rows by the job's wish, with the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from etl.mapper.cells import Cells, blank_out
from etl.model import Skipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.mapper.cells import Mask
    from etl.mapper.column import Column


class LeftOut:
    """What is left out of n rows; `rows` has the mask of each spec's place."""

    def __init__(self) -> None:
        self.rows: dict[str, Mask] = {}
        self._by_reason: dict[tuple[str, str], list[Mask]] = {}

    def skip(self, column: Column, cells: Cells) -> Cells:
        """The column without the values that have a fault. Of several faults of a value the first counts."""
        seen = np.zeros(len(cells.values), dtype=np.bool_)
        for fault in cells.faults:
            reason = column.spec.column or column.name, fault.code
            self._by_reason.setdefault(reason, []).append(fault.rows & ~seen)
            seen |= fault.rows
        self.rows[column.place] = seen
        return Cells(blank_out(cells.values, seen), raw=cells.raw)

    def counted(self, numbers: NDArray[np.int64], kept: Mask) -> tuple[Skipped, ...]:
        """Those of the `kept` rows, with the `numbers` of the rows (shape (n,))."""
        found = []
        for (name, code), masks in self._by_reason.items():
            rows = np.sort(np.concatenate([numbers[mask & kept] for mask in masks]))
            if len(rows):
                found.append(Skipped(name, code, rows))
        return tuple(found)
