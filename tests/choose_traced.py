"""Chooses the tests whose coverage is measured (`make traced`), since tracing doubles their time.

Those that together reach nearly all that all tests reach, in the least time. It reads what a run leaves with
`--cov --cov-context=test --junitxml=...` and `PROPSYNC_TRACE=all`, and writes `traced.txt`.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import defaultdict
from contextlib import closing
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

CHOSEN: Final = Path(__file__).with_name("traced.txt")
_SHARE: Final = 0.984  # of all branches that tests reach
_LEAST: Final = 0.02  # seconds; so that the list doesn't grow by tests that take no time


def choose(data: Path, times: Path) -> list[str]:
    """The tests, those first that reach most in a second."""
    seconds: dict[str, float] = defaultdict(float)
    for case in ET.parse(times).iter("testcase"):
        seconds[f"{case.get('classname')}.{case.get('name')}"] = float(case.get("time", 0))
    reached: dict[str, set[tuple[int, int, int]]] = defaultdict(set)
    query = "SELECT context.context, file_id, fromno, tono FROM arc JOIN context ON context.id = context_id"
    with closing(sqlite3.connect(data)) as connection:
        for context, *arc in connection.execute(query):
            reached[context.rpartition("|")[0]].add((arc[0], arc[1], arc[2]))

    def worth(test: str) -> float:
        function, bracket, values = test.partition("[")
        name = function.replace(".py::", "::").replace("/", ".").replace("::", ".") + bracket + values
        return len(reached[test] - got) / (_LEAST + seconds[name])

    got = reached.pop("", set())
    wanted, chosen = _SHARE * len(got.union(*reached.values())), list[str]()
    # What a test adds only falls as others are chosen, so only the first of the queue is weighed again.
    queue = [(-worth(test), test) for test in reached]
    heapify(queue)
    while len(got) < wanted:
        _, test = heappop(queue)
        now = -worth(test)
        if queue and now > queue[0][0]:
            heappush(queue, (now, test))
        else:
            got |= reached[test]
            chosen.append(test)
    return chosen


if __name__ == "__main__":
    CHOSEN.write_text("\n".join(sorted(choose(Path(".coverage"), Path(sys.argv[1])))) + "\n")
