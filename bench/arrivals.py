"""Whether just those users and properties arrived that a night changed.

    python -m bench.arrivals RECORD FILE MODE

RECORD is what `bench.recorder` wrote down, FILE the export in which every 50th user has another plan. Says
how many users changed, how many arrived, how many of them were wrong, and some of these.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.data import EVERY, GROUP


def changed(path: Path, mode: str) -> Iterator[dict[str, Any]]:
    """What has to arrive, by id: of `property` the plan alone, of `user` all that the user has."""
    first = 0
    for batch in pq.ParquetFile(path).iter_batches(GROUP):
        rows = np.flatnonzero(np.arange(first, first + len(batch)) % EVERY == 0)
        first += len(batch)
        table = pa.Table.from_batches([batch]).take(pa.array(rows))
        yield from (table.select(["id", "plan"]) if mode == "property" else table).to_pylist()


def compared(record: Path, path: Path, mode: str) -> dict[str, Any]:
    """The record, which is ordered by id, beside what has to be in it."""
    with record.open(encoding="utf-8") as lines:
        arrived = json.loads(next(lines))["count"]
        count = wrong = 0
        some: list[Any] = []
        for expected, got in zip_longest(changed(path, mode), map(json.loads, lines)):
            count += expected is not None
            if expected != got:
                wrong += 1
                some = [*some, [expected, got]][:2]
    return {"changed": count, "arrived": arrived, "wrong": wrong, "some": some}


def main(record: str, path: str, mode: str) -> None:
    print(json.dumps(compared(Path(record), Path(path), mode)))


if __name__ == "__main__":
    main(*sys.argv[1:])
