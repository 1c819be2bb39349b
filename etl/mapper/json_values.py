"""The type json: any JSON value that Amplitude takes, one text at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from etl.amplitude import MAX_DEPTH, MAX_STRING_LENGTH
from etl.arrow.exact_json import dump, load
from etl.mapper.cells import Cells, Fault
from etl.mapper.limits import LIST_TOO_LONG, STRING_TOO_LONG, TooLong
from etl.mapper.native import NESTED_LIST, TOO_DEEP
from etl.mapper.numbers import NOT_FINITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import JsonValue

NOT_JSON: Final = "{} is not JSON"


class _UnfitError(ValueError):
    """The value can't be sent."""

    def __init__(self, code: str, says: str) -> None:
        super().__init__(code, says)
        self.code = code
        self.says = says


def parse_json(texts: pa.Array, too_long: TooLong) -> Cells:
    """JSON texts written anew without blanks; `null` becomes null. The result is raw."""
    return _each(texts, lambda text: _rewritten(text, too_long))


def clean_nested(texts: pa.Array, too_long: TooLong) -> Cells:
    """JSON texts of objects and lists as typed sources have them; the result is raw.

    A null in them says nothing, and neither does an object of nulls.
    """
    return _each(texts, lambda text: _written(_without_nulls(load(text)), too_long))


def fit_list(elements: list[JsonValue], too_long: TooLong) -> list[JsonValue] | tuple[str, str]:
    """A list as it may be sent, without nulls; or code and sentence of what is wrong with it."""
    try:
        return _fit_list(elements, 0, too_long)
    except _UnfitError as error:
        return error.code, error.says


def _each(texts: pa.Array, rewritten: Callable[[str], str | None]) -> Cells:
    results: list[str | None] = []
    unfit: dict[tuple[str, str], list[int]] = {}
    for row, text in enumerate(texts.to_pylist()):
        try:
            results.append(None if text is None else rewritten(text))
        except _UnfitError as error:
            results.append(None)
            unfit.setdefault((error.code, error.says), []).append(row)
    faults = tuple(_fault(code, says, rows, len(texts)) for (code, says), rows in unfit.items())
    return Cells(pa.array(results, pa.string()), faults, raw=True)


def _fault(code: str, says: str, rows: list[int], n: int) -> Fault:
    marks = np.zeros(n, dtype=np.bool_)
    marks[rows] = True
    return Fault(code, marks, says)


def _rewritten(text: str, too_long: TooLong) -> str | None:
    try:
        value = load(text)
    except (ValueError, RecursionError) as error:
        raise _UnfitError("bad_json", NOT_JSON) from error
    return _written(value, too_long)


def _written(value: JsonValue, too_long: TooLong) -> str | None:
    return None if value is None else dump(_fit(value, 0, too_long))


def _without_nulls(value: JsonValue, depth: int = 0) -> JsonValue:
    """What is nested beyond the limit stays as it is: it is told by that."""
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, dict):
        members = ((key, _without_nulls(member, depth + 1)) for key, member in value.items())
        return {key: member for key, member in members if member is not None} or None
    if isinstance(value, list):
        return [_without_nulls(element, depth + 1) for element in value]
    return value


def _fit(value: JsonValue, depth: int, too_long: TooLong) -> JsonValue:
    """The value as it may be sent."""
    if isinstance(value, str):
        return _fit_string(value, too_long)
    if isinstance(value, float) and not math.isfinite(value):
        raise _UnfitError("not_finite", NOT_FINITE)
    if isinstance(value, (list, dict)) and depth == MAX_DEPTH:
        raise _UnfitError("too_deep", TOO_DEEP)
    if isinstance(value, list):
        return _fit_list(value, depth, too_long)
    if isinstance(value, dict):
        return {key: _fit(member, depth + 1, too_long) for key, member in value.items()}
    return value


def _fit_string(value: str, too_long: TooLong) -> str:
    if len(value) > MAX_STRING_LENGTH and too_long == "reject":
        raise _UnfitError("too_long", STRING_TOO_LONG)
    return value[:MAX_STRING_LENGTH]


def _fit_list(elements: list[JsonValue], depth: int, too_long: TooLong) -> list[JsonValue]:
    """The list without nulls; its strings count together, and where they are cut the rest is left out."""
    fitting: list[JsonValue] = []
    characters = 0
    for element in elements:
        if isinstance(element, list):
            raise _UnfitError("nested_list", NESTED_LIST)
        fit = _fit(element, depth + 1, too_long)
        characters += len(fit) if isinstance(fit, str) else 0
        if characters > MAX_STRING_LENGTH and too_long == "reject":
            raise _UnfitError("too_long", LIST_TOO_LONG)
        if characters <= MAX_STRING_LENGTH and fit is not None:
            fitting.append(fit)
    return fitting
