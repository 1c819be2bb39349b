"""The different values of a text column, with what each of them fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """The column `name`: its different `texts`, shape (d,), and how often each comes (`counts`, int64).

    `fits` has for each recogniser the texts that fit it. `untyped`: the texts come from CSV; without `text`
    they are numbers of a typed column.
    """

    name: str
    texts: pa.StringArray
    counts: NDArray[np.int64]
    fits: Mapping[str, Mask]
    untyped: bool = True
    text: bool = True

    @cached_property
    def null(self) -> Mask:
        """Which texts are words for null. Two letters are none in a column of codes of two letters."""
        null = self.fits.get("null")
        if null is None:
            return np.zeros(len(self.texts), dtype=np.bool_)
        letters = np.array(pc.match_substring_regex(self.texts, r"^\p{L}{2}$"), dtype=np.bool_)
        rest = self.counts[~null].sum()
        codes = rest and self.counts[letters & ~null].sum() >= 0.5 * rest
        return null & ~letters if codes else null

    @cached_property
    def total(self) -> int:
        """How many values there are, without those that mean null."""
        return int(self.counts[~self.null].sum())

    def fit(self, name: str) -> Mask:
        """Which texts fit a recogniser, without those that mean null."""
        found = self.fits.get(name)
        return np.zeros(len(self.texts), dtype=np.bool_) if found is None else found & ~self.null

    def weight(self, mask: Mask) -> int:
        """How many values have the marked texts."""
        return int(self.counts[mask].sum())

    def likely(self, name: str, share: float) -> bool:
        """Whether there are values, and at least this share of them fits."""
        return 0 < self.total * share <= self.weight(self.fit(name)) if name in self.fits else False

    def null_counts(self) -> Counter[str]:
        """How often each word for null comes."""
        found: Counter[str] = Counter()
        if not self.null.any():
            return found
        places = np.flatnonzero(self.null)
        for text, count in zip(
            self.texts.take(pa.array(places)).to_pylist(), self.counts[places], strict=True
        ):
            found[text.strip()] += int(count)
        return found

    def marked(self, mask: Mask) -> Counter[str]:
        """How often each of the marked texts comes."""
        places = np.flatnonzero(mask)
        texts = self.texts.take(pa.array(places)).to_pylist()
        return Counter(dict(zip(texts, self.counts[places].tolist(), strict=True)))
