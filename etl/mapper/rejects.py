"""The first fault of each row, told as a reject with the row's original values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from etl.arrow.exact_json import dump, load
from etl.arrow.json_type import is_json
from etl.values import json_of, plain_text, python_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from etl.mapper.cells import Fault, Mask

_SHOWN_CHARACTERS: Final = 60


class Verdicts:
    """For each of n rows the first fault found; add faults in the order in which they count."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._first = np.full(n, -1, dtype=np.int64)
        self._faults: list[tuple[str, Fault, pa.Array | None]] = []

    def add(self, prefix: str, faults: tuple[Fault, ...], source: pa.Array | None) -> None:
        """Note faults of a column; `prefix` begins their sentences, `source` has the values to be quoted."""
        for fault in faults:
            self._first[fault.rows & (self._first < 0)] = len(self._faults)
            self._faults.append((prefix, fault, source))

    @property
    def bad(self) -> Mask:
        """Which rows have a fault; bool, shape (n,)."""
        marks: Mask = self._first >= 0
        return marks

    def reasons(self) -> Iterator[tuple[int, str, str]]:
        """Row, code and reason of every bad row, ascending by row."""
        for row in np.flatnonzero(self.bad).tolist():
            prefix, fault, source = self._faults[self._first[row]]
            shown = source if fault.shown is None else fault.shown
            quoted = "" if shown is None else quote(shown, row)
            yield row, fault.code, f"{prefix}: {fault.says.replace('{}', quoted)}"


def quote(values: pa.Array, row: int) -> str:
    """Show a value as one printable line: at most 60 characters of it, text in quotes."""
    value = python_value(values, row)
    if is_json(values.type):
        value = load(str(value))
    nested = isinstance(value, (dict, list))
    text = (dump(value) if is_json(values.type) else json_of(value)) if nested else plain_text(value)
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "\u2026"
    line = "".join(c if c.isprintable() else " " for c in cut)
    return line if nested else f'"{line}"'
