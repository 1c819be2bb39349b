"""How many examples of a property are tried: a share of them by `make test`, all of them by `make soak`."""

from __future__ import annotations

import os

_ALL = os.environ.get("PROPSYNC_EXAMPLES") == "all"


def examples(full: int, usual: int | None = None, *, least: int = 25) -> int:
    """The full number in a soak; else the usual one: by default a third, and at least `least` of them."""
    return full if _ALL else usual or max(full // 3, min(full, least))
