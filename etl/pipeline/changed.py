"""What a run would change, property by property: how often, and for example for whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from etl import amplitude
from etl.changes import Bundle, Compared, Layout
from etl.json_lines import Splice, json_lines

EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Example:
    """A user and the value to be sent. What was sent before isn't known, only that it was another."""

    user: str
    new: object


@dataclass(slots=True)
class Change:
    """One property (or family, or group) in what would be sent.

    `changed`: rows of known users in which it differs. `new`: rows of new users that have it.
    """

    changed: int = 0
    new: int = 0
    examples: list[Example] = field(default_factory=list)


class Changed:
    """Counts batches as they are compared; `new`, `changed` and `unchanged` are rows by their users."""

    def __init__(self, layout: Layout, splice: Splice | None = None) -> None:
        self._layout = layout
        self._splice = splice
        self.new = 0
        self.changed = 0
        self.unchanged = 0
        self.by_property: dict[str, Change] = {}

    def add(self, compared: Compared) -> None:
        """Count a batch."""
        new = int(compared.new.sum())
        self.new += new
        self.changed += len(compared.new) - new
        self.unchanged += compared.unchanged
        if self._layout.mode == "property":
            for number, bundle in enumerate(self._layout.compared):
                self._add_to(bundle, number, compared)

    def _add_to(self, bundle: Bundle, number: int, compared: Compared) -> None:
        prints = compared.mapped.prints
        if prints is None:
            return
        changes = compared.changes[:, number]
        fresh = compared.new & (prints[:, number] != 0)
        if not changes.any() and not fresh.any():
            return
        change = self.by_property.setdefault(bundle.name, Change())
        change.changed += int(changes.sum())
        change.new += int(fresh.sum())
        # Of known users, if there are any: theirs is what one wants to look at.
        rows = np.flatnonzero(changes)[: EXAMPLES - len(change.examples)]
        change.examples += self._examples(bundle, compared.mapped.identifications.take(pa.array(rows)))

    def _examples(self, bundle: Bundle, rows: pa.RecordBatch) -> Iterator[Example]:
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
