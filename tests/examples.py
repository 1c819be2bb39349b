"""How many examples of a property are tried: a share of them by `make test`, all of them by `make soak`."""

from __future__ import annotations

import os

_ALL = os.environ.get("PROPSYNC_EXAMPLES") == "all"


def examples(full: int) -> int:
    """Of the full number a third, but no fewer than 25 where there are as many."""
    return full if _ALL else max(full // 3, min(full, 25))
