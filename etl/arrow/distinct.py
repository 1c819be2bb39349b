"""The distinct values of columns as JSON, counted in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from typing import Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from .json_lines import json_texts, splice_json, unmark_json
from .layout import is_list

ENTRY: Final = 128  # bytes of a text in `ValueCounts`, besides its letters
_MOST: Final = 10  # texts that are kept where there are too many
_BETWEEN: Final = "\x1f"  # elements of a list, while its values are counted
_TYPES: Final = (
    (pa.types.is_boolean, "true/false"),
    (pa.types.is_integer, "whole number"),
    (pa.types.is_floating, "number"),
    (pa.types.is_decimal, "number"),
    (pa.types.is_date, "date"),
    (pa.types.is_timestamp, "date and time"),
    (is_list, "list"),
    (pa.types.is_struct, "object"),
)


class ValueCounts:
    """Counts distinct texts, exactly while they fit into `budget` bytes; then it is `full`.

    A full one adds no new texts, but goes on counting those that it has. `distinct` is how many there are, at
    least if it is full; `counted` is how many values its counts are of.
    """

    def __init__(self, budget: int) -> None:
        self._counts: dict[str, int] = {}
        self._left = budget
        self.full = False
        self.distinct = self.counted = 0

    def knows(self, text: str) -> bool:
        """Whether it has the text."""
        return text in self._counts

    def fits(self, distinct: int, nbytes: int = 0) -> bool:
        """Whether so many new texts fit into it."""
        return distinct * ENTRY + nbytes <= self._left

    def add(self, texts: Iterable[tuple[str, int]]) -> None:
        """Add texts with their counts."""
        for text, count in texts:
            if text not in self._counts:
                if not self.fits(1, len(text)):
                    self.full = True
                    continue
                self._left -= ENTRY + len(text)
            self._counts[text] = self._counts.get(text, 0) + count
            self.counted += count
        self.distinct = max(self.distinct, len(self._counts) + self.full)

    def close(self, distinct: int, texts: Iterable[tuple[str, int]] = (), counted: int = 0) -> None:
        """Keep only the most frequent texts, as there are more than fit; `texts` and `counted` are added."""
        self._counts = dict([*self.top(_MOST), *texts])
        self.full, self.distinct = True, max(self.distinct, distinct)
        self.counted += counted

    def top(self, most: int) -> list[tuple[str, int]]:
        """The most frequent texts with their counts; of equally frequent ones the first in the alphabet."""
        return nsmallest(most, self._counts.items(), key=lambda item: (-item[1], item[0]))


def type_word(column: pa.Array) -> str:
    """The type of the values of a column, of which at least one is not null, in a word for people."""
    if (word := next((word for check, word in _TYPES if check(column.type)), None)) is not None:
        return word
    first = unmark_json(column.drop_null()[0].as_py()) if pa.types.is_string(column.type) else None
    return "text" if first is None else "list" if first[:1] == "[" else "JSON"


def _is_joined(kind: pa.DataType) -> bool:
    """Whether values are lists whose elements are text, or are cast to text that is their JSON."""
    if not is_list(kind):
        return False
    inner = kind.value_type
    plain = pa.types.is_string(inner) or pa.types.is_primitive(inner) or pa.types.is_decimal(inner)
    return plain and not pa.types.is_temporal(inner)


def countable(values: pa.Array) -> pa.Array:
    """The values in a type whose values Arrow can count: lists as their joined elements."""
    if _is_joined(values.type):
        return pc.binary_join(values.cast(pa.list_(pa.string())), _BETWEEN)
    return json_texts(values) if pa.types.is_nested(values.type) else values


def json_of(values: pa.Array, kind: pa.DataType | None = None) -> list[str]:
    """The JSON of values without nulls. With a `kind`, they are those that `countable` made of it."""
    if kind is not None and pa.types.is_nested(kind):
        if not _is_joined(kind):
            return [str(text) for text in values.to_pylist()]
        lists = [text.split(_BETWEEN) if text else [] for text in values.to_pylist()]
        if pa.types.is_string(kind.value_type):
            return [splice_json(orjson.dumps(one)).decode() for one in lists]
        return [f"[{','.join(one)}]" for one in lists]
    if pa.types.is_string(values.type):
        return [unmark_json(text) or orjson.dumps(text).decode() for text in values.to_pylist()]
    return [text.removesuffix(".0") for text in json_texts(values).to_pylist()]
