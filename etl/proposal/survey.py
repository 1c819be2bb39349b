"""Reads a whole source once, batch by batch, and keeps what a job file's author would want to know of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from etl.model import Stretch
from etl.proposal.facts import ColumnFacts

if TYPE_CHECKING:
    from etl.model import Batch
    from etl.reader import Source


@dataclass(slots=True)
class Survey:
    """A source that was read: its rows, its columns in order, and the rows that can't be read.

    `everywhere` has the columns that no file lacks. `beyond_ascii` counts the texts of CSV files that
    have other letters than ASCII's.
    """

    rows: int = 0
    columns: dict[str, ColumnFacts] = field(default_factory=dict)
    everywhere: frozenset[str] = frozenset()
    unreadable: Counter[str] = field(default_factory=Counter)
    first_unreadable: tuple[str, int] | None = None
    beyond_ascii: int = 0

    def add(self, batch: Batch) -> None:
        """Take in a batch."""
        self.rows += batch.stop - batch.first
        for reject in batch.rejects:
            self.unreadable[reject.code] += 1
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
    # A row of NDJSON may lack any column, and so may a file of such rows.
    files = zip(source.files, names, strict=True)
    named = [frozenset(some) for file, some in files if some and file.format != "ndjson"]
    found.everywhere = frozenset.intersection(*named) if named else frozenset(found.columns)
    for file in range(len(source.files)):
        for batch in source.read(Stretch(file), used=names[file]):
            found.add(batch)
    return found
