"""The scalars of a job file: as YAML's core schema reads them, as the JSON that is sent, and text as YAML."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import orjson

from .. import amplitude
from ..text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

Data: TypeAlias = "dict[str, Data] | list[Data] | str | int | float | bool | None"
ValueType: TypeAlias = Literal["string", "number", "integer", "boolean", "date", "datetime", "list", "json"]
# What a constant must be in the place where it stands; None is anything that Amplitude stores.
ConstantType: TypeAlias = ValueType | Literal["texts"] | None

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")
_MAX_DIGITS: Final = 300  # Python refuses to read integers of thousands of digits
_MAX_INTEGER: Final = 2**63
# What messages call a constant of a type, and what it is in Python.
_TYPES: Final[dict[ConstantType, tuple[str, tuple[type, ...]]]] = {
    "string": ("text", (str,)),
    "texts": ("text or a list of text", (str,)),
    "number": ("a number", (int, float)),
    "integer": ("a whole number", (int,)),
    "boolean": ("true or false", (bool,)),
    "date": ("a date such as 2024-12-31", (str,)),
    "datetime": ("a time such as 2024-12-31T23:59:59Z", (str,)),
    "list": ("a list", (list,)),
}


class PlainScalar(str):
    """A scalar without quotes. As a str it is its text, so `no`, `2024` and `1.10` can name columns."""

    __slots__ = ()

    @property
    def value(self) -> str | int | float | bool | None:
        """null, a boolean, a number or text; an integer of over 300 digits is infinite."""
        if _NULL.fullmatch(self):
            return None
        if _BOOLEAN.fullmatch(self):
            return self.lower() == "true"
        if _INTEGER.fullmatch(self):
            base = {"0o": 8, "0x": 16}.get(self[:2], 10)
            return int(self, base) if len(self) <= _MAX_DIGITS else math.inf
        if _NUMBER.fullmatch(self):
            return float(self)
        return math.nan if _NOT_FINITE.fullmatch(self) else str(self)


def resolved(data: Data) -> Data:
    """The same data with the value of every plain scalar in its place."""
    if isinstance(data, PlainScalar):
        return data.value
    if isinstance(data, dict):
        return {key: resolved(value) for key, value in data.items()}
    return [resolved(value) for value in data] if isinstance(data, list) else data


def is_blank(value: object) -> bool:
    """Whether a key has no value: `csv:` with nothing after it, or null."""
    return value is None or (isinstance(value, PlainScalar) and value.value is None)


def blank_is_empty(value: object) -> object:
    """A key with nothing after it is an empty mapping."""
    return {} if is_blank(value) else value


def written_constant(value: Data, type_: ConstantType) -> tuple[str, list[str]]:
    """A constant as the JSON text that is sent, and what is wrong with it, as ends of sentences about it."""
    try:
        typed = _typed(value, type_)
    except (ValueError, OverflowError):
        return "null", [f"must be {_TYPES[type_][0]}"]
    found = list(dict.fromkeys(_limit_faults(typed, depth=1)))
    return "null" if found else orjson.dumps(typed, option=orjson.OPT_SORT_KEYS).decode(), found


def _typed(value: Data, type_: ConstantType) -> Data:
    """The constant as its type has it. Raises ValueError or OverflowError if it isn't of the type."""
    if type_ == "texts" and isinstance(value, list):
        return [_typed(item, "string") for item in value]
    # Text is what stands in the file, also where that reads as a number.
    as_text = isinstance(value, str) and type_ in {"string", "texts", "date", "datetime"}
    read = str(value) if as_text else resolved(value)
    _, types = _TYPES.get(type_, ("", (object,)))
    if not isinstance(read, types) or (isinstance(read, bool) and type_ in {"number", "integer"}):
        raise ValueError("not of the type")
    if type_ in {"date", "datetime"}:
        # An ISO date, or a time in UTC and of fixed width, as Amplitude compares times as text.
        from ..dates import normalized  # it needs pyarrow, and few jobs need it

        return normalized(str(read), day=type_ == "date")
    return read


def _limit_faults(value: Data, depth: int) -> Iterator[str]:
    longest = amplitude.MAX_STRING_LENGTH
    if depth > amplitude.MAX_DEPTH:
        yield f"is nested deeper than {amplitude.MAX_DEPTH} levels"
        return
    if isinstance(value, list):
        if any(isinstance(item, list) for item in value):
            yield "has a list inside a list, which Amplitude refuses"
        if sum(len(item) for item in value if isinstance(item, str)) > longest:
            yield f"is a list of more than {longest} characters in all"
    elif isinstance(value, str) and len(value) > longest:
        yield f"is longer than {longest} characters"
    elif isinstance(value, float) and not math.isfinite(value):
        yield "is not a finite number, so JSON can't hold it"
    elif isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        yield "is too big a number; quote it to make it text"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from _limit_faults(item, depth + 1)


# --- text as YAML ----------------------------------------------------------------------------------------

_BARE: Final = re.compile(r"(?:\.{0,2}/)*[A-Za-z_][A-Za-z0-9_./-]*")
# What some YAML reader takes for something other than text.
_MISREAD: Final = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])


def quoted(text: str) -> str:
    """Write a text as a YAML scalar, in quotes only if it needs them."""
    return text if _BARE.fullmatch(text) and text.lower() not in _MISREAD else in_quotes(text)


def in_quotes(text: str) -> str:
    """Write a text as a double-quoted YAML scalar; PyYAML would not escape marks of the reading direction."""
    return '"' + visible(re.sub(r'(["\\])', r"\\\1", text)) + '"'
