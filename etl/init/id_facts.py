"""The values of a column as ids, counted in memory that doesn't grow with the rows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.requests import MAX_ID_LENGTH, MIN_ID_LENGTH
from ..arrow.layout import as_mask, text_layout
from ..job.column_spec import ColumnSpec
from ..mapper.column import Column
from ..mapper.column_values import first_issues, quote_value
from ..subject import hash_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..reader import Source

_ID_CODES: Final = ("mangled_id", "refused_id", "short_id", "long_id")
KEPT_HASHES: Final = 1 << 14  # the estimate is within 1 % beyond that
# Any large number: with a small one, texts of a few control characters would share a hash.
_SEED: Final = 0xD1B54A32D192ED03
_LONGEST_PREFIX: Final = 60
_SPAN: Final = 2.0**64
_DIGITS: Final = np.isin(range(256), list(b"0123456789"))
_AS_ID: Final = Column(("user_id",), "user_id", "id", ColumnSpec(column=""))


@dataclass(frozen=True, slots=True)
class Values:
    """Values of a column, mostly different, shape (d,), how often each comes (int64), and empty texts."""

    distinct: pa.Array
    counts: NDArray[np.int64]
    empty: int = 0


class DistinctCounter:
    """Counts different texts by the smallest of their hashes, exactly while there are few.

    `exact`: `count` is not an estimate.
    """

    def __init__(self) -> None:
        self._hashes = np.empty(0, dtype=np.uint64)
        self.exact = True

    def add(self, texts: pa.StringArray) -> None:
        """Count texts of shape (n,), none of them null or empty."""
        hashes = hash_texts(texts, _SEED)
        if not self.exact:
            hashes = hashes[hashes < self._hashes[-1]]
        if len(hashes):
            hashes.sort()
            together = np.insert(self._hashes, self._hashes.searchsorted(hashes), hashes)
            together = together[np.append(True, together[1:] != together[:-1])]
            self.exact = self.exact and len(together) <= KEPT_HASHES
            self._hashes = together[:KEPT_HASHES]

    @property
    def count(self) -> int:
        """How many different texts there were."""
        if self.exact:
            return len(self._hashes)
        return round((KEPT_HASHES - 1) * _SPAN / float(self._hashes[-1]))


@dataclass(slots=True)
class IdFacts:
    """A column as ids, over all rows read so far, as the mapper would have them.

    `usable` rows have an id, good or not; `spaced` of these have a blank in it, and `words` are letters
    alone. `lost` counts the rows whose value can't be an id by reject code, `faults` those with an id that is
    rejected. `refused` counts the rows of refused ids by the id; `mangled` those of mangled ids by what is
    wrong, each with an example.
    """

    prefix: str
    usable: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    spaced: int = 0
    words: int = 0
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

    def follow(self, column: pa.Array, numbers: NDArray[np.int64]) -> None:
        """Look whether the values of a batch, in rows `numbers`, go on to count the rows."""
        if self._starts and len(column):
            first = str(column[0].as_py())  # of most columns it says enough
            self._starts = {
                start
                for start in self._starts
                if first == str(numbers[0] - 1 + start)
                and column.cast(pa.string()).equals(pa.array(numbers - 1 + start).cast(pa.string()))
            }

    def add(self, values: Values, null: NDArray[np.bool_] | None = None) -> None:
        """Count more values of the column; `null` marks the words for null."""
        if null is not None and null.any():
            values = Values(values.distinct.filter(pa.array(~null)), values.counts[~null])
        cells = _AS_ID.read(values.distinct, len(values.distinct), text=True)
        ids, counts = cells.values, values.counts

        def rows_of(marks: pa.Array) -> int:
            return int(counts[as_mask(marks)].sum())

        self.distinct.add(ids.drop_null())
        self.usable += rows_of(ids.is_valid())
        starts, stops, letters = text_layout(ids)
        if ord(" ") in letters:
            self.spaced += rows_of(pc.match_substring(ids, " "))
        if len(letters) and not _DIGITS[letters[np.minimum(starts, len(letters) - 1)]].all():
            self.words += rows_of(pc.utf8_is_alpha(ids))
        longest = MAX_ID_LENGTH - len(self.prefix)
        if (stops - starts).max(initial=0) > longest:
            self.too_long_with_prefix += rows_of(pc.greater(pc.utf8_length(ids), longest))
        for issue in first_issues(cells.issues, len(ids)):
            places, count = np.flatnonzero(issue.rows).tolist(), int(counts[issue.rows].sum())
            (self.faults if issue.code in _ID_CODES else self.lost)[issue.code] += count
            if issue.code == "refused_id":
                for place in places:
                    self.refused[ids[place].as_py()] += int(counts[place])
            if issue.code == "mangled_id":
                self.mangled[issue.message] += count
                self.examples.setdefault(issue.message, quote_value(ids, places[0]))


def id_prefix(source: Source) -> str:
    """The prefix of ids that are too short: the first long word of the first file's name, and a dash."""
    stem = PurePath(source.files[0].name).name.partition(".")[0] if source.files else ""
    words = [word.lower() for word in re.findall(r"[^\W_]+", stem)]
    long = [word for word in words if len(word) >= MIN_ID_LENGTH - 2 and not word.isdigit()]
    return f"{[*long, 'user'][0][:_LONGEST_PREFIX]}-"


def counted_values(
    pieces: list[pa.Array], first_counts: NDArray[np.int64] | None = None, *, distinct: bool = True
) -> Values:
    """The different values of arrays that are neither null nor empty text. Not for nested types.

    `first_counts` says how often each value of the first array comes, which has no null; it is once
    otherwise. Without `distinct` equal values may stand there several times, which is quicker where few are
    equal.
    """
    if len({piece.type for piece in pieces}) > 1:
        pieces = [piece.cast(pa.string()) for piece in pieces]
    column = pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)
    if distinct:
        encoded = column.dictionary_encode()
        found, codes = encoded.dictionary, np.array(encoded.indices.drop_null())
        counts = np.bincount(codes, minlength=len(found))
        if first_counts is not None:
            np.add.at(counts, codes[: len(first_counts)], first_counts - 1)
    else:
        found = column.drop_null()
        counts = np.ones(len(found), dtype=np.int64)
    empty = np.zeros(len(found), np.bool_)
    if pa.types.is_string(found.type):
        empty = np.array(pc.binary_length(found)) == 0
    if not empty.any():
        return Values(found, counts)
    return Values(found.filter(pa.array(~empty)), counts[~empty], int(counts[empty].sum()))
