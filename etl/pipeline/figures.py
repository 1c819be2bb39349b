"""Figures of an export in bounded memory: the values of each property, and the faults of each column."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from heapq import nsmallest
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.requests import ADDRESS_FIELDS
from ..arrow.json_text import json_texts, splice_json, unmark_json
from ..arrow.layout import FieldPath, is_list, value_columns
from ..arrow.originals import take_values
from ..errors import REMEDIES, SKIP_REMEDIES
from ..mapper import quoted_counts
from ..model import Mapped, Reject, RowFault
from ..subject import Subject
from ..text import MASK
from .job_source import JobSource, original_values_of

# What the counters of all columns may take in memory together, and those of one; in bytes.
_BUDGET, _MOST_BYTES = 1 << 26, 1 << 18
_SAMPLES: Final = 10
_TOP, _LONGEST = 5, 200  # values of a property that are shown, and characters of a value


@dataclass(frozen=True, slots=True)
class MappedExample:
    """A row before and after mapping: the JSON of the columns that are used, and of the identification."""

    user: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(slots=True)
class _ColumnFaults:
    """The values of a column that are wrong for one reason: how many, and which."""

    values: ValueCounts
    count: int = 0


class Figures:
    """Figures of an export, gathered batch by batch as it is mapped, before rows are compared and merged.

    `rows` are those that aren't rejects. `hashed` are columns that are only sent hashed: none of their values
    is kept. `rejected` and `skipped` are by column ("" if it is no single one) and code; every fault of a
    reject counts.
    """

    def __init__(self, source: JobSource) -> None:
        identification = source.job.identification
        located = list(identification.located())
        self._source, self._columns = source, identification.columns()
        budget = min(_MOST_BYTES, _BUDGET // len(located))
        specs = [spec for _, spec in located]
        plain = {one.column for one in specs if all(step.verb != "sha256" for step in one.transform)}
        self.hashed = frozenset(one.column for one in specs if one.column) - plain
        self.rows = 0
        self.properties: dict[FieldPath, _PropertyFigures] = {}
        for path, spec in located:
            if path[0] not in ADDRESS_FIELDS:
                place = tuple(map(str, path))
                name = ".".join(place[1:] if place[0] == "user_properties" else place)
                figures = _PropertyFigures(name, spec.column, options_of(spec), ValueCounts(budget))
                self.properties[place] = figures

        self.rejected, self.skipped = (
            defaultdict[tuple[str, str], _ColumnFaults](lambda: _ColumnFaults(ValueCounts(budget // 8)))
            for _ in range(2)
        )
        self.samples: dict[str, MappedExample] = {}

    def add(self, mapped: Mapped) -> None:
        """Add a batch as it is mapped."""
        batch = mapped.batch
        self.rows += batch.stop - batch.first - len(mapped.rejects)
        for path, column in value_columns(mapped.identifications):
            if path in self.properties:
                self.properties[path].add(column)
        for some in mapped.skipped:
            if len(some.rows):
                found = self.skipped[some.column, some.reason]
                found.count += len(some.rows)
                place = batch.rows.schema.get_field_index(some.column)
                if place >= 0 and some.column not in self.hashed:
                    rows = np.searchsorted(batch.numbers, some.rows)
                    found.values.add(quoted_counts(take_values(batch.rows.column(place), rows)))
        if len(self.samples) < _SAMPLES and len(mapped.kept):
            self._add_samples(mapped)

    def add_sent(self, mapped: Mapped) -> None:
        """Add a batch as it is sent, after comparing."""
        for path, column in value_columns(mapped.identifications):
            if path in self.properties:
                self.properties[path].sent += len(column) - column.null_count

    def add_reject(self, reject: Reject) -> None:
        """Add a reject, of any stage."""
        for fault in reject.faults or (RowFault("", reject.code, reject.reason),):
            found = self.rejected[fault.column, fault.code]
            found.count += 1
            if fault.value and fault.column not in self.hashed:
                found.values.add([(fault.value, 1)])

    def as_dict(self, *, mask: bool) -> dict[str, Any]:
        """The figures as plain data; with `mask`, without ids and values of any user."""

        def shown(text: str, *, quoted: bool = False) -> Any:
            """The value of a JSON text, or the beginning of a long text; a quoted text as it is."""
            if mask or quoted:
                return MASK if mask else text
            return json.loads(text) if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\u2026"

        def values(found: ValueCounts, *, quoted: bool = False) -> dict[str, Any]:
            listed = [{"value": shown(text, quoted=quoted), "count": n} for text, n in found.top(_TOP)]
            return {"distinct": found.distinct, "distinct_is_exact": not found.full, "values": listed}

        def faults(
            found: Mapping[tuple[str, str], _ColumnFaults], remedies: Mapping[str, str]
        ) -> list[dict[str, Any]]:
            return [
                {"column": column, "code": code, "count": one.count}
                | values(one.values, quoted=True)
                | {"remedy": remedies.get(code, "")}
                for (column, code), one in sorted(found.items(), key=lambda item: -item[1].count)
            ]

        return {
            "rejected_values": faults(self.rejected, REMEDIES),
            "skipped": faults(self.skipped, SKIP_REMEDIES),
            "properties": [
                {
                    "property": one.name,
                    "types": list(one.types),
                    "rows": self.rows,
                    "example": None if one.example is None else shown(one.example),
                    "counted": one.values.counted,
                    **{name: getattr(one, name) for name in ("column", "options", "filled", "sent")},
                    **values(one.values),
                }
                for one in self.properties.values()
            ],
            "samples": [
                {"user": MASK, "before": dict.fromkeys(one.before, MASK), "after": _masked(one.after)}
                if mask
                else asdict(one)
                for one in self.samples.values()
            ],
        }

    def _add_samples(self, mapped: Mapped) -> None:
        few = mapped.identifications.slice(0, 2 * _SAMPLES)
        rows = original_values_of(mapped, mapped.kept[: len(few)], self._columns)
        for values, after in zip(rows, self._source.decoded(few), strict=True):
            user = str(after[Subject.of(after).lead])
            if len(self.samples) < _SAMPLES and user not in self.samples:
                before = {name: values[name] for name in self._columns if name in values}
                before |= dict.fromkeys(self.hashed & before.keys(), MASK)
                self.samples[user] = MappedExample(user, before, after)


def _masked(value: Any) -> Any:
    """The same keys with masked values."""
    return {key: _masked(inner) for key, inner in value.items()} if isinstance(value, dict) else MASK


def options_of(spec: Any) -> dict[str, Any]:
    """The keys of a spec, or of a part of it, that differ from their defaults, but for `column`."""
    found = {}
    for part in fields(spec):
        name, value = part.name, getattr(spec, part.name)
        if name == "formats" and len(value) == 1:
            name, (value,) = "argument", value  # as of every other step with one text
        if value != part.default and name != "column":
            found[name] = [options_of(step) for step in value] if name == "transform" else value
    return found


# --- one property -----------------------------------------------------------------------------------------

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


@dataclass(slots=True)
class _PropertyFigures:
    """A property (or group, or field) in the rows that aren't rejects: how it is made and what it holds.

    `options` are the keys of its column spec other than `column`. `filled` is how many rows have a value, and
    `sent` in how many of them it differs from the snapshot; `example` and the texts of `values` are JSON.
    """

    name: str
    column: str | None
    options: dict[str, Any]
    values: ValueCounts
    types: dict[str, None] = field(default_factory=dict)
    filled: int = 0
    sent: int = 0
    example: str | None = None

    def add(self, column: pa.Array) -> None:
        """Add the values of a batch; their counts only until there are too many distinct values."""
        filled = len(column) - column.null_count
        if not filled:
            return
        self.filled += filled
        if self.example is None:
            self.example = json_of(column.drop_null().slice(0, 1))[0]
        self.types.setdefault(_type_word(column))
        counts = self.values
        if counts.full:
            return
        found = countable(column.drop_null()).value_counts()
        values, numbers = found.field(0), found.field(1)
        if (new := len(values)) <= _MOST_BYTES // ENTRY and values.nbytes <= _MOST_BYTES:
            texts = list(zip(json_of(values, column.type), numbers.to_pylist(), strict=True))
            fresh = [len(text) for text, _ in texts if not counts.knows(text)]
            if counts.fits(len(fresh), sum(fresh)):
                counts.add(texts)
                return
            new = counts.distinct + len(fresh)
        if counts.counted:  # those that were counted so far are exact
            counts.close(new)
            return
        most = pa.array(np.argsort(-numbers.to_numpy(), kind="stable")[:_SAMPLES])
        top = zip(json_of(values.take(most), column.type), numbers.take(most).to_pylist(), strict=True)
        counts.close(new, top, filled)


def _type_word(column: pa.Array) -> str:
    """A word for the type of a column that has a value."""
    if (word := next((word for check, word in _TYPES if check(column.type)), None)) is not None:
        return word
    first = unmark_json(column.drop_null()[0].as_py()) if pa.types.is_string(column.type) else None
    return "text" if first is None else "list" if first[:1] == "[" else "JSON"


# --- distinct values --------------------------------------------------------------------------------------

ENTRY: Final = 128  # bytes of a text in `ValueCounts`, besides its letters
_MOST: Final = 10  # texts that are kept where there are too many
_BETWEEN: Final = "\x1f"  # elements of a list, while its values are counted


class ValueCounts:
    """Counts distinct texts, exactly while they fit into `budget` bytes; then it is `full`.

    A full one adds no new texts, but goes on counting those that it has. `distinct` is the number of texts, a
    lower bound if it is full; `counted` is the sum of the counts.
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
        """Keep only the most frequent texts and `texts`, as more don't fit; add `counted`."""
        self._counts = dict([*self.top(_MOST), *texts])
        self.full, self.distinct = True, max(self.distinct, distinct)
        self.counted += counted

    def top(self, most: int) -> list[tuple[str, int]]:
        """The most frequent texts with their counts; of equally frequent ones the first in the alphabet."""
        return nsmallest(most, self._counts.items(), key=lambda item: (-item[1], item[0]))


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


def _is_joined(kind: pa.DataType) -> bool:
    """Whether values are lists whose elements are text, or are cast to text that is their JSON."""
    if not is_list(kind):
        return False
    inner = kind.value_type
    plain = pa.types.is_string(inner) or pa.types.is_primitive(inner) or pa.types.is_decimal(inner)
    return plain and not pa.types.is_temporal(inner)
