"""What an export has of each property, which values don't fit, and which users change, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import reduce
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from ..amplitude.operators import ID_FIELDS, TIME_FIELD
from ..arrow.distinct import ENTRY, ValueCounts, countable, json_of, type_word
from ..arrow.exact_json import load_json
from ..arrow.json_lines import Splice, json_lines
from ..arrow.layout import valid_mask
from ..arrow.originals import original_rows, original_values, rows_with_originals, take_values
from ..arrow.structs import FieldPath, value_columns
from ..errors import REMEDIES
from ..job import Job
from ..mapper import quoted_counts
from ..model import Mapped, Reject, RowFault
from ..snapshot import BitSet, DiffedBatch, DistinctUsers, FieldGroup
from ..subject import Subject, user_keys
from ..text import MASK
from .diff_base import DiffBase

# What the counters of all columns may take in memory together, and those of one; in bytes.
_BUDGET, _MOST_BYTES = 1 << 26, 1 << 18
_SAMPLES: Final = 10
_TOP, _LONGEST = 5, 200  # values of a property that are shown, and characters of a value
_USER_EXAMPLES: Final = 3  # of users whose value of a property changes


@dataclass(slots=True)
class PropertyFigures:
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
        """Add the values of a batch; once there are too many distinct ones, only whether there is one."""
        filled = len(column) - column.null_count
        if not filled:
            return
        self.filled += filled
        if self.example is None:
            self.example = json_of(column.drop_null().slice(0, 1))[0]
        self.types.setdefault(type_word(column))
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


@dataclass(slots=True)
class ColumnFaults:
    """The values of a column that are wrong for one reason: how many, and which."""

    count: int
    values: ValueCounts


@dataclass(frozen=True, slots=True)
class MappedExample:
    """A row before and after mapping: the JSON of the columns that are used, and of the identification."""

    user: str
    before: dict[str, Any]
    after: dict[str, Any]


class Figures:
    """Figures of an export, gathered batch by batch as it is mapped, before rows are compared and merged.

    `rows` are those that aren't rejects. `hashed` are columns of which only hashes are sent: none of their
    values is kept. `rejected` and `skipped` are by column ("": none alone) and code; of
    a reject every fault counts.
    """

    def __init__(self, job: Job, splice: Splice | None = None) -> None:
        located = list(job.identification.located())
        self._columns, self._splice = job.identification.columns(), splice
        self._budget = min(_MOST_BYTES, _BUDGET // len(located))
        specs = [spec for _, spec in located]
        plain = {one.column for one in specs if all(step.verb != "sha256" for step in one.transform)}
        self.hashed = frozenset(one.column for one in specs if one.column) - plain
        self.rows = 0
        self.properties: dict[FieldPath, PropertyFigures] = {}
        for path, spec in located:
            if path[0] not in {*ID_FIELDS, TIME_FIELD}:
                place = tuple(map(str, path))
                name = ".".join(place[1:] if place[0] == "user_properties" else place)
                figures = PropertyFigures(name, spec.column, options_of(spec), ValueCounts(self._budget))
                self.properties[place] = figures
        self.rejected: dict[tuple[str, str], ColumnFaults] = {}
        self.skipped: dict[tuple[str, str], ColumnFaults] = {}
        self.samples: dict[str, MappedExample] = {}

    def look(self, mapped: Mapped) -> None:
        """Add a batch."""
        batch = mapped.batch
        self.rows += batch.stop - batch.first - len(mapped.rejects)
        for path, column in value_columns(mapped.identifications):
            if path in self.properties:
                self.properties[path].add(column)
        for some in mapped.skipped:
            if len(some.rows):
                found = self.skipped.setdefault((some.column, some.reason), self._no_faults())
                found.count += len(some.rows)
                place = batch.rows.schema.get_field_index(some.column)
                if place >= 0 and some.column not in self.hashed:
                    rows = np.searchsorted(batch.numbers, some.rows)
                    found.values.add(quoted_counts(take_values(batch.rows.column(place), rows)))
        if len(self.samples) < _SAMPLES and len(mapped.kept):
            self._add_samples(mapped)

    def send(self, mapped: Mapped) -> None:
        """Count which properties a batch sends, once it was compared."""
        for path, column in value_columns(mapped.identifications):
            if path in self.properties:
                self.properties[path].sent += len(column) - column.null_count

    def reject(self, reject: Reject) -> None:
        """Add a reject, which may come of any stage."""
        for fault in reject.faults or (RowFault("", reject.code, reject.reason),):
            found = self.rejected.setdefault((fault.column, fault.code), self._no_faults())
            found.count += 1
            if fault.value and fault.column not in self.hashed:
                found.values.add([(fault.value, 1)])

    def as_dict(self, *, mask: bool) -> dict[str, Any]:
        """The figures as plain data; with `mask`, without ids and values of any user."""

        def shown(text: str) -> Any:
            """The value of a JSON text; a long one as the beginning of its text."""
            if mask:
                return MASK
            return json.loads(text) if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\u2026"

        def values(found: ValueCounts, *, quoted: bool = False) -> dict[str, Any]:
            top = [(text if quoted and not mask else shown(text), n) for text, n in found.top(_TOP)]
            listed = [{"value": value, "count": n} for value, n in top]
            return {"distinct": found.distinct, "distinct_is_exact": not found.full, "values": listed}

        def faults(found: Mapping[tuple[str, str], ColumnFaults]) -> list[dict[str, Any]]:
            return [
                {"column": column, "code": code, "count": one.count}
                | values(one.values, quoted=True)
                | {"remedy": REMEDIES.get(code, "")}
                for (column, code), one in sorted(found.items(), key=lambda item: -item[1].count)
            ]

        return {
            "rejected_values": faults(self.rejected),
            "skipped": faults(self.skipped),
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

    def _no_faults(self) -> ColumnFaults:
        return ColumnFaults(0, ValueCounts(self._budget // 8))

    def _add_samples(self, mapped: Mapped) -> None:
        batch, some = mapped.batch, mapped.identifications.slice(0, 2 * _SAMPLES)
        positions = mapped.kept[: len(some)]
        if batch.originals is None:
            used = [name for name in self._columns if batch.rows.schema.get_field_index(name) >= 0]
            few = batch.rows.select(used or batch.rows.schema.names)  # a transform may have made all of them
            rows = original_values(few, positions, text=batch.text, keep_empty=mapped.keep_empty)
        else:
            found = original_rows(rows_with_originals(batch), positions, source=batch.source)
            rows = [row.values for row in found]
        for row, line in zip(rows, json_lines(some, splice=self._splice).splitlines(), strict=True):
            after: dict[str, Any] = orjson.loads(line)
            user = str(after[Subject.of(after).lead])
            if len(self.samples) < _SAMPLES and user not in self.samples:
                values = load_json(row)
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
        value = getattr(spec, part.name)
        if value != part.default and part.name != "column":
            found[part.name] = [options_of(step) for step in value] if part.name == "transform" else value
    return found


# --- its users, and which of them are new or changed ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """A user and the value to be sent. The value sent before is unknown, only that it was another."""

    user: str
    new: object
    old: str = "unknown"


@dataclass(slots=True)
class Change:
    """How many users would get another value of a property (or family, or group).

    `changed`: known users for whom it differs. `new`: new users who have it.
    """

    changed: int = 0
    new: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Changed:
    """Users of an export, each counted once: `new` ones, known ones who `changed`, and all others.

    A user of whom only an increment is sent has not changed.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    by_property: dict[str, Change] = field(default_factory=dict)


class UserCount:
    """Counts the users of batches as they are compared: those of rows that describe an update.

    It counts while its `fresh` users, whom the snapshot doesn't know, are open. What of them doesn't fit in
    memory is written beside `path`.
    """

    def __init__(self, diff_base: DiffBase, path: Path, splice: Splice | None = None) -> None:
        layout, n = diff_base.layout, 0 if diff_base.snapshot is None else len(diff_base.snapshot)
        self._snapshot = diff_base.snapshot
        self._splice = splice
        self._compares = layout is not None
        self._counted = layout.counted if layout else np.zeros(0, np.bool_)
        self._bundles = layout.compared if layout and layout.mode == "property" else ()
        self.fresh = DistinctUsers(path, len(self._bundles))
        self._seen, self._changed = BitSet(n), BitSet(n)
        self._by_bundle = [BitSet(n) for _ in self._bundles]
        self._examples: list[list[Example]] = [[] for _ in self._bundles]

    def add(self, compared: DiffedBatch) -> None:
        """Count a batch. Rows that a later run has overtaken are rejects."""
        seen = compared.seen
        if seen is None:
            keys = user_keys(compared.mapped.identifications)[:, 0]
            nowhere = np.full(len(keys), -1, dtype=np.int64)
            positions = nowhere if self._snapshot is None else self._snapshot.find(keys)
            there = changed = np.ones(len(keys), dtype=np.bool_)
        else:
            keys, positions = seen.keys[:, 0], seen.positions[:, 0]
            there, changed = ~seen.overtaken, seen.changed(self._counted)
        self._seen.add(positions[there])
        self._changed.add(positions[there & changed])
        left = np.arange(len(keys)) if compared.rows is None else compared.rows
        fresh = positions[left] < 0
        given = np.zeros((len(left), len(self._bundles)), np.bool_)
        columns = dict(value_columns(compared.mapped.identifications))
        for number, bundle in enumerate(self._bundles):
            for path in columns.keys() & bundle.paths:
                given[:, number] |= valid_mask(columns[path])
        self.fresh.add(keys[left[fresh]], given[fresh])
        for number, changes in enumerate(compared.changes.T[: len(self._bundles)]):
            if changes.any():
                self._by_bundle[number].add(positions[left[changes]])
                if len(self._examples[number]) < _USER_EXAMPLES:
                    self._add_examples(number, compared, positions[left])

    def total(self) -> tuple[int, Changed | None]:
        """How many users there are, and how many of them are new or changed; None if nothing is compared."""
        new, new_by_bundle = self.fresh.count()
        seen, changed = len(self._seen), len(self._changed)
        found = Changed(new, changed, seen - changed)
        columns = zip(self._bundles, self._by_bundle, new_by_bundle, self._examples, strict=True)
        for bundle, known, fresh, examples in columns:
            if len(known) or fresh:
                found.by_property[bundle.name] = Change(len(known), fresh, examples)
        return new + seen, found if self._compares else None

    def _add_examples(self, number: int, compared: DiffedBatch, positions: NDArray[np.int64]) -> None:
        """Add known users of whom a bundle changes, to be looked at; of each the last row, which counts."""
        bundle, examples = self._bundles[number], self._examples[number]
        rows = np.flatnonzero(compared.changes[:, number])[::-1]
        last = rows[np.unique(positions[rows], return_index=True)[1]]
        picked = compared.mapped.identifications.take(pa.array(np.sort(last))).slice(0, _USER_EXAMPLES)
        for line in json_lines(picked, splice=self._splice).splitlines():
            found: dict[str, Any] = orjson.loads(line)
            user = str(found[Subject.of(found).lead])
            if len(examples) < _USER_EXAMPLES and user not in {example.user for example in examples}:
                examples.append(Example(user, _value(bundle, found)))


def _value(bundle: FieldGroup, found: Any) -> object:
    """The values of a bundle in an identification, a dict: one alone, several by name, or "unset"."""
    values: dict[str, Any] = {}
    for path in bundle.paths:
        if path[1:2] != ("$unset",):
            values[path[-1]] = reduce(lambda part, name: (part or {}).get(name), path, found)
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return "unset"
    return given if len(values) > 1 else next(iter(given.values()))
