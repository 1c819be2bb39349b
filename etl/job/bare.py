"""A bare word is text where text is expected, and elsewhere what YAML's core schema takes it for."""

from __future__ import annotations

import math
import re
from typing import Final, TypeAlias

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | float | bool | None"

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")
_MAX_DIGITS: Final = 300  # Python refuses to read integers of thousands of digits


class Bare(str):
    """A word without quotes. As a str it is its text, so `no`, `2024` and `1.10` can name columns."""

    __slots__ = ()

    @property
    def meaning(self) -> str | int | float | bool | None:
        """null, a boolean, a number or text. Too big an integer, infinity and NaN are floats, not finite."""
        if _NULL.fullmatch(self):
            return None
        if _BOOLEAN.fullmatch(self):
            return self.lower() == "true"
        if _INTEGER.fullmatch(self):
            return _integer(self)
        if _NUMBER.fullmatch(self):
            return float(self)
        return math.nan if _NOT_FINITE.fullmatch(self) else str(self)


def is_blank(value: object) -> bool:
    """Say whether nothing stands here: `csv:` with nothing after it."""
    return value is None or (isinstance(value, Bare) and value.meaning is None)


def plain(tree: Tree) -> Tree:
    """The same data with every bare word replaced by its meaning."""
    if isinstance(tree, Bare):
        return tree.meaning
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    return [plain(value) for value in tree] if isinstance(tree, list) else tree


def _integer(text: str) -> int | float:
    if len(text) > _MAX_DIGITS:
        return math.inf
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
