"""How much of a property or a table `make test` tries, and in how many tests: `make soak` tries all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from inspect import signature
from itertools import product
from typing import Any

import pytest
from _pytest.mark import ParameterSet

_ALL = os.environ.get("PROPSYNC_EXAMPLES") == "all"


def examples(full: int, usual: int | None = None, *, least: int = 12) -> int:
    """The full number in a soak; else the usual one: by default a sixth, and at least `least` of them."""
    return full if _ALL else usual or max(full // 6, min(full, least))


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


def each_row(
    names: str | Sequence[str], rows: Iterable[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Like `pytest.mark.parametrize`, in one test, which tries every row and tells of each that fails.

    For rows that take less time than a test of their own. Each has a folder of its own as `tmp_path`.
    """
    keys = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    all_given = [dict(zip(keys, row if len(keys) > 1 else [row], strict=True)) for row in rows]

    def decorated(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def whole(**fixtures: Any) -> None:
            faults: list[BaseException] = []
            for number, given in enumerate(all_given):
                if "tmp_path" in fixtures:
                    given = {**given, "tmp_path": fixtures["tmp_path"] / str(number)}
                    given["tmp_path"].mkdir()
                try:
                    test(**{**fixtures, **given})
                except (Exception, BaseExceptionGroup, pytest.fail.Exception) as fault:  # noqa: BLE001
                    fault.add_note(f"The row: {given}")
                    faults.append(fault)
            if faults:
                raise BaseExceptionGroup(f"{len(faults)} of {len(all_given)} rows fail", faults)

        fixed = signature(test)
        others = [one for name, one in fixed.parameters.items() if name not in keys]
        vars(whole)["__signature__"] = fixed.replace(parameters=others)
        return whole

    return decorated
