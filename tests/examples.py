"""How much of a property or a table `make test` tries: a share of it; `make soak` tries all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from _pytest.mark import ParameterSet

_ALL = os.environ.get("PROPSYNC_EXAMPLES") == "all"


def examples(full: int, usual: int | None = None, *, least: int = 20) -> int:
    """The full number in a soak; else the usual one: by default a quarter, and at least `least` of them."""
    return full if _ALL else usual or max(full // 4, min(full, least))


def rarely(*values: Any) -> list[ParameterSet]:
    """Further values of one parameter, which a soak tries."""
    return [pytest.param(value, marks=pytest.mark.soak) for value in values]


def combinations(*lists: Sequence[Any], also: Sequence[tuple[Any, ...]] = ()) -> list[ParameterSet]:
    """All combinations of one value from each list; each value is in one that isn't left to a soak.

    `also` are combinations that are always tried, too.
    """
    longest = max(map(len, lists))
    usual = [*also, *(tuple(one[place % len(one)] for one in lists) for place in range(longest))]
    return [
        pytest.param(*values, marks=() if values in usual else pytest.mark.soak) for values in product(*lists)
    ]
