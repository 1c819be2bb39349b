"""The users of an export, and which of them are new or changed, by property; in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.layout import valid_mask, value_columns
from ..snapshot import BitSet, DiffedBatch, DistinctUsers, FieldGroup
from ..subject import Subject, user_keys
from .diff_base import DiffBase
from .job_source import JobSource

_USER_EXAMPLES: Final = 3  # of users whose value of a property changes


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


@dataclass(slots=True)
class _GroupCount:
    group: FieldGroup
    known: BitSet  # the entries of users for whom it differs
    examples: list[Example] = field(default_factory=list)


class UserCount:
    """Counts the users of batches as they are compared: those of rows that describe an update.

    It counts while its `fresh` users, whom the snapshot doesn't know, are open. What of them doesn't fit in
    memory is written beside `path`.
    """

    def __init__(self, diff_base: DiffBase, path: Path, source: JobSource) -> None:
        layout, n = diff_base.layout, 0 if diff_base.snapshot is None else len(diff_base.snapshot)
        self._snapshot, self._source = diff_base.snapshot, source
        self._compares = layout is not None
        self._counted = layout.counted if layout else np.zeros(0, np.bool_)
        groups = layout.compared if layout and layout.mode == "property" else ()
        self._groups = [_GroupCount(group, BitSet(n)) for group in groups]
        self.fresh = DistinctUsers(path, len(groups))
        self._seen, self._changed = BitSet(n), BitSet(n)

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
        fresh, users = positions[left] < 0, positions[left]
        given = np.zeros((len(left), len(self._groups)), np.bool_)
        columns = dict(value_columns(compared.mapped.identifications))
        for number, one in enumerate(self._groups):
            for path in columns.keys() & one.group.paths:
                given[:, number] |= valid_mask(columns[path])
        self.fresh.add(keys[left[fresh]], given[fresh])
        for one, changes in zip(self._groups, compared.changes.T, strict=False):  # no columns: none compared
            rows = np.flatnonzero(changes)
            one.known.add(users[rows])
            if len(rows) and len(one.examples) < _USER_EXAMPLES:
                self._add_examples(one, compared.mapped.identifications, rows, users[rows])

    def total(self) -> tuple[int, Changed | None]:
        """How many users there are, and how many of them are new or changed; None if nothing is compared."""
        new, new_by_group = self.fresh.count()
        seen, changed = len(self._seen), len(self._changed)
        found = Changed(new, changed, seen - changed)
        for one, fresh in zip(self._groups, new_by_group, strict=True):
            if len(one.known) or fresh:
                found.by_property[one.group.name] = Change(len(one.known), fresh, one.examples)
        return new + seen, found if self._compares else None

    def _add_examples(
        self, one: _GroupCount, sent: pa.RecordBatch, rows: NDArray[np.int64], users: NDArray[np.int64]
    ) -> None:
        """Add known users of whom a group changes, to be looked at; of each the last row, which counts.

        `rows` (shape (k,)) are those of what is `sent` in which it changes, and `users` theirs.
        """
        last = rows[::-1][np.unique(users[::-1], return_index=True)[1]]
        for found in self._source.decoded(sent.take(pa.array(np.sort(last)[:_USER_EXAMPLES]))):
            user = str(found[Subject.of(found).lead])
            if len(one.examples) < _USER_EXAMPLES and user not in {example.user for example in one.examples}:
                one.examples.append(Example(user, _value(one.group, found)))


def _value(group: FieldGroup, found: Any) -> object:
    """The values of a group in an identification, a dict: one alone, several by name, or "unset"."""
    values: dict[str, Any] = {}
    for path in group.paths:
        if path[1:2] != ("$unset",):
            values[path[-1]] = reduce(lambda part, name: (part or {}).get(name), path, found)
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return "unset"
    return given if len(values) > 1 else next(iter(given.values()))
