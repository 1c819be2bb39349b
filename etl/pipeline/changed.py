"""What a run would change, user by user and property by property: how often, and for example for whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from etl import amplitude
from etl.json_lines import Splice, json_lines
from etl.keys import user_keys
from etl.pipeline.diff_base import DiffBase
from etl.snapshot import Bundle, Compared, DistinctUsers
from etl.snapshot.bits import Bits

EXAMPLES: Final = 3

_Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Example:
    """A user and the value to be sent. What was sent before isn't known, only that it was another."""

    user: str
    new: object


@dataclass(slots=True)
class Change:
    """One property (or family, or group) in what would be sent.

    `changed`: known users for whom it differs. `new`: new users who have it.
    """

    changed: int = 0
    new: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Changed:
    """Users of an export, each counted once: `new` ones, known ones who `changed`, and all others.

    Someone of whom only an increment is sent has not changed.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    by_property: dict[str, Change] = field(default_factory=dict)


class UserCount:
    """Counts the users of batches as they are compared. A user is whom a row with something to say is about.

    Use it as a context manager. What memory isn't for is written beside `path`.
    """

    def __init__(self, diff_base: DiffBase, path: Path, splice: Splice | None = None) -> None:
        layout, n = diff_base.layout, 0 if diff_base.snapshot is None else len(diff_base.snapshot)
        self._snapshot = diff_base.snapshot
        self._splice = splice
        self._compares = layout is not None
        self._counted = np.isin(layout.names, layout.counted) if layout else np.zeros(0, np.bool_)
        self._bundles = layout.compared if layout and layout.mode == "property" else ()
        self._new = DistinctUsers(path, len(self._bundles))
        self._seen, self._changed = Bits(n), Bits(n)
        self._by_bundle = [Bits(n) for _ in self._bundles]
        self._examples: list[list[Example]] = [[] for _ in self._bundles]
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self._new)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, compared: Compared) -> None:
        """Count a batch."""
        keys, positions, there, changed = self._users(compared)
        self._seen.add(positions[there])
        self._changed.add(positions[there & changed])
        left = np.arange(len(keys)) if compared.rows is None else compared.rows
        fresh = positions[left] < 0
        fingerprints = compared.mapped.fingerprints
        columns = len(self._bundles)
        given = np.zeros((len(left), 0), np.bool_) if fingerprints is None else fingerprints[:, :columns] != 0
        self._new.add(keys[left[fresh]], given[fresh])
        for number, bundle in enumerate(self._bundles):
            changes = compared.changes[:, number]
            if changes.any():
                self._by_bundle[number].add(positions[left[changes]])
                self._add_examples(number, bundle, compared, positions[left])

    def total(self) -> tuple[int, Changed | None]:
        """How many users there are, and what became of them; None where nothing is compared."""
        new, new_by_bundle = self._new.count()
        seen, changed = len(self._seen), len(self._changed)
        found = Changed(new, changed, seen - changed)
        columns = zip(self._bundles, self._by_bundle, new_by_bundle, self._examples, strict=True)
        for bundle, known, fresh, examples in columns:
            if len(known) or fresh:
                found.by_property[bundle.name] = Change(len(known), fresh, examples)
        return new + seen, found if self._compares else None

    def _users(self, compared: Compared) -> tuple[NDArray[np.uint64], NDArray[np.int64], _Mask, _Mask]:
        """Of each row its user's key and place in the snapshot, whether it counts and whether it changes.

        Rows that were overtaken are rejects.
        """
        seen = compared.seen
        if seen is not None:
            changed = seen.changed(self._counted)
            return seen.keys[:, 0], seen.positions[:, 0], ~seen.overtaken, changed
        keys = user_keys(compared.mapped.identifications)[:, 0]
        nowhere, everybody = np.full(len(keys), -1, dtype=np.int64), np.ones(len(keys), dtype=np.bool_)
        positions = nowhere if self._snapshot is None else self._snapshot.find(keys)
        return keys, positions, everybody, everybody

    def _add_examples(
        self, number: int, bundle: Bundle, compared: Compared, positions: NDArray[np.int64]
    ) -> None:
        examples = self._examples[number]
        if len(examples) < EXAMPLES:
            # Of known users: theirs is what one wants to look at. Of each the last row: it has the last word.
            rows = np.flatnonzero(compared.changes[:, number])[::-1]
            last = rows[np.unique(positions[rows], return_index=True)[1]]
            picked = compared.mapped.identifications.take(pa.array(np.sort(last)))
            users = {example.user for example in examples}
            for example in self._shown(bundle, picked.slice(0, EXAMPLES)):
                if example.user not in users and len(examples) < EXAMPLES:
                    examples.append(example)

    def _shown(self, bundle: Bundle, rows: pa.RecordBatch) -> Iterator[Example]:
        for line in json_lines(rows, splice=self._splice).splitlines():
            found: dict[str, Any] = orjson.loads(line)
            user = next(found[name] for name in amplitude.ID_FIELDS if name in found)
            yield Example(str(user), _value(bundle, found))


def _value(bundle: Bundle, found: dict[str, Any]) -> object:
    """What an identification has of a bundle; a family's values by name, `unset` for what is to be unset."""
    values = {path[-1]: _at(path, found) for path in bundle.paths if path[1:2] != ("$unset",)}
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return "unset"
    return next(iter(given.values())) if len(values) == 1 else given


def _at(path: tuple[str, ...], found: Any) -> Any:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found
