"""Chooses the test files whose coverage is measured (`make traced`), since tracing doubles their time.

The fewest files that together reach nearly all that all tests reach. It reads `.coverage`, as a run with
`--cov --cov-context=test` and `PROPSYNC_TRACE=all` leaves it, and writes `traced.txt`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Final

CHOSEN: Final = Path(__file__).with_name("traced.txt")
_SHARE: Final = 0.985  # of all branches that tests reach


def choose(data: Path) -> list[str]:
    """The test files, those first that reach most."""
    reached: dict[str, set[tuple[int, int, int]]] = defaultdict(set)
    query = "SELECT context.context, file_id, fromno, tono FROM arc JOIN context ON context.id = context_id"
    with closing(sqlite3.connect(data)) as connection:
        for context, *arc in connection.execute(query):
            reached[context.partition("::")[0]].add((arc[0], arc[1], arc[2]))
    got = reached.pop("", set())
    wanted, chosen = _SHARE * len(got.union(*reached.values())), list[str]()
    while len(got) < wanted:
        best = max(reached, key=lambda file: len(reached[file] - got))
        got |= reached.pop(best)
        chosen.append(best)
    return chosen


if __name__ == "__main__":
    CHOSEN.write_text("\n".join(sorted(choose(Path(".coverage")))) + "\n")
