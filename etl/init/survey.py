"""Reads a whole source once, batch by batch, and keeps what a job file's author would want to know of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from etl.init.facts import ColumnFacts
from etl.model import RowRange

if TYPE_CHECKING:
    from etl.model import Batch
    from etl.reader import Source


@dataclass(slots=True)
class Survey:
    """A source that was read: its rows, its columns in order, and the rows that can't be read.

    `everywhere` has the columns that no file lacks, and `sendable` also those that are null where a file
    lacks them. `beyond_ascii` counts the texts of CSV files that have other letters than ASCII's;
    `backslashes` counts the unreadable rows that have one.
    """

    rows: int = 0
    columns: dict[str, ColumnFacts] = field(default_factory=dict)
    everywhere: frozenset[str] = frozenset()
    sendable: frozenset[str] = frozenset()
    unreadable: Counter[str] = field(default_factory=Counter)
    first_unreadable: tuple[str, int] | None = None
    beyond_ascii: int = 0
    backslashes: int = 0

    def add(self, batch: Batch) -> None:
        """Take in a batch."""
        self.rows += batch.stop - batch.first
        for reject in batch.rejects:
            self.unreadable[reject.code] += 1
            self.backslashes += "\\\\" in reject.values  # one, as JSON writes it
            self.first_unreadable = self.first_unreadable or (reject.source, reject.row)
        for name, column in zip(batch.rows.schema.names, batch.rows.columns, strict=True):
            self.columns[name].add(column, batch)
            if batch.text:
                self.beyond_ascii += pc.sum(pc.invert(pc.string_is_ascii(column))).as_py() or 0


def survey(source: Source, *, prefix: str) -> Survey:
    """Read every row of every file. `prefix` is what short ids would get. Raises SourceError."""
    found = Survey()
    names = [source.names(file) for file in range(len(source.files))]
    for name in dict.fromkeys(name for some in names for name in some):
        found.columns[name] = ColumnFacts(name, prefix)
    named = [frozenset(some) for some in names if some]
    found.everywhere = frozenset.intersection(*named) if named else frozenset()
    strict = [
        frozenset(some)
        for some, file in zip(names, source.files, strict=True)
        if some and file.format != "ndjson"
    ]
    found.sendable = frozenset(found.columns).intersection(*strict)
    for file in range(len(source.files)):
        for batch in source.read(RowRange(file), used=names[file]):
            found.add(batch)
    for facts in found.columns.values():
        facts.decide()
    return found
