"""The type to propose for a column by its different values: recognisers, in the order of asking.

What most values fit is proposed. Where values may be read in two ways, the column stays text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..job.column_spec import ColumnSpec, Unit
from ..job.problems import clipped
from ..job.scalars import in_quotes
from ..text import counted
from .names import is_code, is_time
from .recognisers import (
    AROUND,
    COMPACT,
    SEPARATORS,
    STYLES,
    TWO_LETTERS,
    date_spec,
    matches,
    order_of,
    style_spec,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .recognisers import Mask

_DATES: Final = 0.8  # of the values must be dates; a date is hardly one by chance
_MOST: Final = 0.9
_ALL: Final = 0.98
_DIRT: Final = 0.01
_SOME: Final = 0.05
_FEW: Final = 0.34  # a third, by which a small file has one such value
_MOST_WORDS: Final = 12
_MOST_PARTS: Final = 20_000


@dataclass(frozen=True)
class Sample:
    """The column `name`: its different `texts`, shape (d,), and how often each comes (`counts`, int64).

    `fits` has for each recogniser the texts that fit it. `untyped`: the texts come from CSV; without `text`
    they are numbers of a typed column.
    """

    name: str
    texts: pa.StringArray = field(default_factory=lambda: pa.array([], pa.string()))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    fits: Mapping[str, Mask] = field(default_factory=dict)
    untyped: bool = True
    text: bool = True

    @cached_property
    def codes(self) -> bool:
        """Whether most texts are codes of two letters; then words for null of two letters are codes, too."""
        if "null" not in self.fits:
            return False
        plain = ~self.fits["null"]
        return 0 < self.weight(plain) <= 2 * self.weight(plain & matches(self.texts, TWO_LETTERS))

    @cached_property
    def null(self) -> Mask:
        """Which texts are words for null."""
        null = self.fits.get("null", np.zeros(len(self.texts), dtype=np.bool_))
        return null & ~matches(self.texts, TWO_LETTERS) if self.codes else null

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

    def likely(self, name: str, share: float = 0.9) -> bool:
        """Whether there are values, and at least this share of them fits a recogniser."""
        return 0 < self.total * share <= self.weight(self.fit(name)) if name in self.fits else False

    def marked(self, mask: Mask) -> Counter[str]:
        """How often each of the marked texts comes."""
        places = np.flatnonzero(mask)
        texts = self.texts.take(pa.array(places)).to_pylist()
        return Counter(dict(zip(texts, self.counts[places].tolist(), strict=True)))


@dataclass(frozen=True)
class ProposedType:
    """How a column is read: a spec, words for its kind, why if that isn't plain, a spec that nearly fits.

    `parts` are the formats in which values are read if there are several. `whole`: the spec reads all values.
    `no_zone`: there are times that don't say their zone.
    """

    spec: ColumnSpec
    kind: str
    remark: str | None = None
    nearly: ColumnSpec | None = None
    parts: tuple[str, ...] = ()
    no_zone: bool = False
    whole: bool = False


def propose_type(sample: Sample) -> ProposedType:
    """The type to propose for a column; its spec names the column."""
    plain = ColumnSpec(column=sample.name)
    if sample.total:
        for recognise in _RECOGNISERS if sample.text else (epoch_numbers,):
            if found := recognise(sample, plain):
                return found
    return ProposedType(plain, "text")


def _typed(
    sample: Sample, spec: ColumnSpec, kind: str, fits: Mask, share: float = _MOST
) -> ProposedType | None:
    """A type that at least a share of the values fits."""
    fitting, total = sample.weight(fits), sample.total
    return ProposedType(spec, kind, whole=fitting == total) if 0 < total * share <= fitting else None


def boolean_words(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """Words for yes and no."""
    yes, no, english = (sample.fit(name) for name in ("yes", "no", "boolean"))
    words = sample.marked(yes | no)
    if not words or len(words) > _MOST_WORDS:
        return None
    if not (yes.any() and no.any()) and {word.lower() for word in words}.isdisjoint({"true", "false"}):
        return None
    if sample.weight(english) >= sample.weight(yes | no):
        spec = replace(plain, type="boolean")
        return _typed(sample, spec, "yes or no", english) if sample.untyped else None
    meanings = {word.strip(): "true" for word in sample.marked(yes)}
    meanings |= {word.strip(): "false" for word in sample.marked(no)}
    return _typed(sample, replace(plain, values=tuple(sorted(meanings.items()))), "yes or no", yes | no)


# --- dates -----------------------------------------------------------------------------------------------


def iso_dates(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """Dates and times of ISO 8601."""
    days, times = sample.fit("date"), sample.fit("datetime")
    others = [sample.fit(name) & ~times for name in sample.fits if "%" in name and name != COMPACT]
    if sample.weight(times) < sample.total * _MOST or any(other.any() for other in others):
        return None
    type_ = "date" if sample.weight(times & ~days) == 0 else "datetime"
    found = _typed(sample, replace(plain, type=type_), type_, times)  # type: ignore[arg-type]
    return found and replace(found, no_zone=bool(sample.fit("no zone").any()))


def formatted_dates(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """Dates in one format or several: that of most values, then that of most of the rest, and so on."""
    compact = sample.likely(COMPACT, _MOST if is_time(sample.name) else 1.0)
    names = [name for name in sample.fits if "%" in name and (name != COMPACT or compact)]
    left = ~sample.null
    chosen: list[str] = []
    while names:
        weights = {name: sample.weight(sample.fit(name) & left) for name in names}
        best = max(names, key=weights.__getitem__)
        if weights[best] == 0:
            break
        taken = sample.fit(best) & left
        # The other orders of day and month in which some of these values may be read.
        others = [name for name in names if order_of(name) != order_of(best)]
        rivals = [name for name in others if (sample.fit(name) & taken).any()]
        disputed = any(
            sample.weight(sample.fit(name) & left & ~taken) > _DIRT * weights[best]
            or not (taken & ~sample.fit(name)).any()
            for name in rivals
        )
        names = [name for name in names if name != best and name not in rivals]
        if disputed:
            if sample.weight(taken) > (1 - _DATES) * sample.total:
                return _unclear(sample, plain, [best, *rivals])
        else:
            chosen.append(best)
        left &= ~taken
    if not chosen:
        return None
    fits = np.logical_or.reduce([sample.fit(name) for name in chosen])
    spec = replace(date_spec(chosen), column=plain.column)
    found = _typed(sample, spec, f"dates as {' or '.join(chosen)}", fits, _DATES)
    no_zone = any("%M" in name for name in chosen)
    return found and replace(found, parts=tuple(chosen) if len(chosen) > 1 else (), no_zone=no_zone)


def _unclear(sample: Sample, plain: ColumnSpec, names: list[str]) -> ProposedType:
    count = sample.weight(np.logical_or.reduce([sample.fit(name) for name in names]))
    orders = {order_of(name): name for name in reversed(names)}
    choices = " or ".join(f'{{date_format: "{name}"}}' for name in reversed(orders.values()))
    all_ = "all values" if count == sample.total else f"{count:,} of {sample.total:,} values"
    remark = f"{clipped(sample.name)} stays text: {all_} are dates by {choices}. Put the right one in:"
    return ProposedType(plain, "text", remark, replace(date_spec([names[0]]), column=plain.column))


def epoch_numbers(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """Numbers since 1970, where the name is that of a time."""
    for unit in get_args(Unit) if is_time(sample.name) else ():
        spec = replace(plain, type="datetime", unit=unit)
        if found := _typed(sample, spec, f"times as numbers since 1970 ({unit})", sample.fit(unit), _ALL):
            return found
    return None


# --- numbers ---------------------------------------------------------------------------------------------


def digit_codes(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """Digits that are not numbers."""
    if not sample.untyped:
        return None
    digits, integers = sample.fit("digits"), sample.fit("integer")
    name = clipped(sample.name)
    if is_code(sample.name) and sample.weight(digits | sample.fit("number")) >= _MOST * sample.total:
        return ProposedType(plain, "text", f"{name} stays text: such digits are codes, not numbers.")
    if sample.likely("digits", _MOST) and sample.weight(digits & ~integers) > _DIRT * sample.total:
        lose = "leading zeros, a plus sign or more than 15 digits, which a number would lose"
        return ProposedType(plain, "text", f"{name} stays text: some values have {lose}.")
    return None


def bare_numbers(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """Numbers as JSON has them."""
    integers, numbers = sample.fit("integer"), sample.fit("number")
    if not sample.untyped or _best_style(sample)[1] > sample.weight(numbers):
        return None
    fractions = numbers & ~integers
    if not fractions.any():
        return _typed(sample, replace(plain, type="integer"), "integer", integers)
    texts = sample.texts.filter(pa.array(fractions))
    if pc.all(pc.match_substring_regex(texts, r"^-?[1-9]\d{0,2}\.\d{3}$")).as_py():
        return _two_ways(sample, plain, ".")
    return _typed(sample, replace(plain, type="number"), "number", numbers)


def written_numbers(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """Numbers as people write them, with a currency or percents around."""
    style, weight = _best_style(sample)
    if weight < _MOST * sample.total:
        return None
    fits = sample.fit(style)
    parts = pc.extract_regex(sample.texts.filter(pa.array(fits)), AROUND)
    ends = pa.concat_arrays([pc.struct_field(parts, name) for name in ("before", "after")])
    around = "".join(pc.unique(ends).drop_null().to_pylist())
    numbers = pc.struct_field(parts, "number")
    decimal, thousands = STYLES[style]
    rivals = (name for name, signs in STYLES.items() if signs[0] != decimal)
    other = any(sample.weight(sample.fit(name)) == weight for name in rivals)
    sign = "," if "," in STYLES[style] else "."
    if other and pc.any(pc.match_substring(numbers, sign)).as_py():
        return _two_ways(sample, plain, sign)
    strip = "".join(dict.fromkeys("".join(around.split()) + " " * any(one.isspace() for one in around)))
    if not sample.untyped and not strip.strip():
        return None
    between = "[' \u00a0\u2009\u202f\u2019]" if thousands in {" ", "'"} else re.escape(thousands)
    if thousands and not pc.any(pc.match_substring_regex(numbers, between)).as_py():
        style = next(name for name, signs in STYLES.items() if signs == (decimal, ""))
    spec = replace(style_spec(style, strip), column=plain.column)
    signs = [f"{strip.strip()} around"] if strip.strip() else []
    return _typed(sample, spec, " with ".join([f"numbers such as {style}", *signs]), fits)


def hardly_numbers(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """Text that looks like numbers, though too many values are none: the comment shows one."""
    numbers = sample.fit("number")
    bad = sample.total - sample.weight(numbers)
    codes = is_code(sample.name) or (sample.fit("digits") & ~sample.fit("integer")).any()
    if not sample.untyped or codes or not 0 < bad <= _FEW * sample.total:
        return None
    (word, _), *_ = sorted(sample.marked(~numbers & ~sample.null).items(), key=lambda one: (-one[1], one[0]))
    are = "is not a number" if bad == 1 else "are not numbers"
    shown = f"{bad:,} of {counted(sample.total, 'value')} {are}, e.g. {in_quotes(word[:40])}"
    nearly = replace(plain, type="number", invalid="skip")
    return ProposedType(plain, "text", f"{clipped(sample.name)} stays text: {shown}.", nearly)


def _best_style(sample: Sample) -> tuple[str, int]:
    """The way of writing numbers that most values have, and how many."""
    weights = {style: sample.weight(sample.fit(style)) for style in STYLES}
    best = max(weights, key=weights.__getitem__)
    return best, weights[best]


def _two_ways(sample: Sample, plain: ColumnSpec, sign: str) -> ProposedType:
    what = "commas" if sign == "," else "points"
    other = "." if sign == "," else ","
    remark = (
        f"{clipped(sample.name)} stays text: its {what} may stand before a fraction or between thousands. "
        f'Write `decimal: "{sign}"`, or `thousands: "{sign}"` with `decimal: "{other}"`:'
    )
    nearly = {"decimal": ","} if sign == "," else {"thousands": ".", "decimal": ","}
    return ProposedType(plain, "text", remark, replace(plain, type="number", **nearly))  # type: ignore[arg-type]


# --- lists -----------------------------------------------------------------------------------------------


def bracketed_lists(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """JSON, and arrays of Postgres."""
    lists = _typed(sample, replace(plain, type="list"), "lists", sample.fit("list"), _ALL)
    return lists or _typed(sample, replace(plain, type="json"), "json", sample.fit("json"), _ALL)


def separated_lists(sample: Sample, plain: ColumnSpec) -> ProposedType | None:
    """Texts that a sign separates into words, which stand at several places or are most of the column."""
    if not sample.untyped or len(sample.texts) > _MOST_PARTS or sample.likely("mail", _MOST):
        return None
    for sign in SEPARATORS:
        share = sample.weight(sample.fit(sign)) / sample.total
        if share < _SOME:
            continue
        everything = sample.marked(~sample.null)
        split = {text: [part.strip() for part in text.split(sign) if part.strip()] for text in everything}
        longest = max((len(part.split()) for parts in split.values() for part in parts), default=9)
        if longest > 3 or max((len(parts) for parts in split.values()), default=0) < 2:
            continue
        if (sign != "," and share >= 0.5) or _in_any_place(split):
            spec = replace(plain, type="list", separator=sign)
            return ProposedType(spec, f"lists separated by {sign}", whole=True)
    return None


def _in_any_place(split: dict[str, list[str]]) -> bool:
    """Whether most words of longer lists stand first as well as later, or alone: they have no order."""
    first = {parts[0] for parts in split.values() if parts}
    later = {part for parts in split.values() for part in parts[1:]}
    words = [part for parts in split.values() if len(parts) > 1 for part in parts]
    return 2 * sum(word in first and word in later for word in words) > len(words)


_RECOGNISERS: Final[tuple[Callable[[Sample, ColumnSpec], ProposedType | None], ...]] = (
    boolean_words,
    iso_dates,
    formatted_dates,
    epoch_numbers,
    digit_codes,
    bare_numbers,
    written_numbers,
    bracketed_lists,
    separated_lists,
    hardly_numbers,
)
