"""Any text as YAML that reads back as the same text, and column specs as YAML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.job import ColumnSpec, Step

_BARE: Final = re.compile(r"(?:\.{0,2}/)*[A-Za-z_][A-Za-z0-9_./-]*")
# What some YAML reader takes for something other than text.
_WORDS: Final = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def quoted(text: str) -> str:
    """The text as a YAML scalar, in quotes only where it needs them."""
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return in_quotes(text)


def in_quotes(text: str) -> str:
    """The text as a double-quoted YAML scalar."""
    return '"' + "".join(_ESCAPES.get(sign) or _escaped(sign) for sign in text) + '"'


def spec_text(spec: ColumnSpec) -> str:
    """A column spec as one line of YAML: a bare column, or a mapping of what isn't the default."""
    column = quoted(spec.column or "")
    parts = [f"column: {column}"]
    if spec.transform:
        parts.append(f"transform: [{', '.join(_step_text(step) for step in spec.transform)}]")
    if spec.type is not None:
        parts.append(f"type: {spec.type}")
    if spec.type == "list":
        parts.append(f"separator: {in_quotes(spec.separator)}")
    if spec.too_long != "reject":
        parts.append(f"too_long: {spec.too_long}")
    return column if len(parts) == 1 else f"{{{', '.join(parts)}}}"


def _step_text(step: Step) -> str:
    if step.pairs:
        return f"{{replace: {{{', '.join(_pairs(step.pairs))}}}}}"
    return f"{{{step.verb}: {in_quotes(step.argument)}}}" if step.argument else step.verb


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{in_quotes(old)}: {in_quotes(new)}" for old, new in pairs]


def _escaped(sign: str) -> str:
    if sign.isprintable():
        return sign
    code = ord(sign)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
