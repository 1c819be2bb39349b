"""Values that stand in the job file itself: constants and defaults, as Amplitude can take them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import orjson

from etl import amplitude
from etl.job.bare import Tree, plain
from etl.job.spec import ValueType

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a place of the identification takes; None is anything that Amplitude stores.
Kind: TypeAlias = ValueType | Literal["texts"] | None

_MAX_INTEGER: Final = 2**63
_EXPECTED: Final = {
    "string": "text",
    "texts": "text or a list of text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "date": "a date such as 2024-12-31",
    "datetime": "a time such as 2024-12-31T23:59:59Z",
    "list": "a list",
}


def json_text(value: Tree, kind: Kind) -> str:
    """A value without faults as the JSON text that is sent."""
    return orjson.dumps(_read(value, kind), option=orjson.OPT_SORT_KEYS).decode()


def value_faults(value: Tree, kind: Kind) -> Iterator[str]:
    """What is wrong with a value, as ends of sentences about it."""
    try:
        read = _read(value, kind)
    except (ValueError, OverflowError):
        yield f"must be {_EXPECTED[str(kind)]}"
        return
    yield from dict.fromkeys(_limits(read, depth=1))


def _read(value: Tree, kind: Kind) -> Tree:
    """The value as the kind has it. Raises ValueError where it isn't of the kind."""
    if kind == "texts" and isinstance(value, list):
        return [_text(item) for item in value]
    if kind in {"string", "texts"}:
        return _text(value)
    read = plain(value)
    if kind == "date":
        return date.fromisoformat(_text(value)).isoformat()
    if kind == "datetime":
        return _moment(_text(value))
    if _is_a(read, kind):
        return read
    raise ValueError("not of the kind")


def _text(value: Tree) -> str:
    """A bare word is text where text is expected, so `1.10` stays what it is."""
    if isinstance(value, str):
        return str(value)
    raise ValueError("not text")


def _moment(text: str) -> str:
    """A time in UTC and of fixed width, as Amplitude compares times as text; without a zone it is in UTC."""
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def _is_a(value: Tree, kind: Kind) -> bool:
    types: dict[Kind, tuple[type, ...]] = {
        "number": (int, float),
        "integer": (int,),
        "boolean": (bool,),
        "list": (list,),
    }
    if kind not in types:
        return True
    return isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _limits(value: Tree, depth: int) -> Iterator[str]:
    if depth > amplitude.MAX_DEPTH:
        yield f"is nested deeper than {amplitude.MAX_DEPTH} levels"
    elif isinstance(value, dict):
        for item in value.values():
            yield from _limits(item, depth + 1)
    elif isinstance(value, list):
        yield from _list_limits(value, depth)
    else:
        yield from _scalar_limits(value)


def _list_limits(values: list[Tree], depth: int) -> Iterator[str]:
    if any(isinstance(value, list) for value in values):
        yield "has a list inside a list, which Amplitude refuses"
    if sum(len(value) for value in values if isinstance(value, str)) > amplitude.MAX_STRING_LENGTH:
        yield f"is a list of more than {amplitude.MAX_STRING_LENGTH} characters in all"
    for value in values:
        yield from _limits(value, depth + 1)


def _scalar_limits(value: Tree) -> Iterator[str]:
    if isinstance(value, str) and len(value) > amplitude.MAX_STRING_LENGTH:
        yield f"is longer than {amplitude.MAX_STRING_LENGTH} characters"
    if isinstance(value, float) and not math.isfinite(value):
        yield "is not a finite number, so JSON can't hold it"
    if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        yield "is too big a number; quote it to make it text"
