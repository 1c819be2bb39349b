"""What `init` writes: a proposal as a commented job file, and the notes for the terminal."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..amplitude.requests import MAX_PROPERTIES, MIN_ID_LENGTH
from ..job.problems import clipped
from ..text import counted

if TYPE_CHECKING:
    from ..job.column_spec import ColumnSpec
    from .column_proposals import PropertyLine

_WIDTH: Final = 110
_BARE: Final = re.compile(r"(?:\.{0,2}/)*[A-Za-z_][A-Za-z0-9_./-]*")
# What some YAML reader takes for something other than text.
_WORDS: Final = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])


def quoted(text: str) -> str:
    """The text as a YAML scalar, in quotes only where it needs them."""
    return text if _BARE.fullmatch(text) and text.lower() not in _WORDS else in_quotes(text)


def in_quotes(text: str) -> str:
    """The text as a double-quoted YAML scalar; PyYAML would leave signs in it that turn text around."""
    signs = []
    for sign in text:
        escaped = f"\\{sign}" if sign in '"\\' else sign.encode("unicode_escape").decode()
        signs.append(sign if sign.isprintable() and sign not in '"\\' else escaped)
    return f'"{"".join(signs)}"'


def spec_text(spec: ColumnSpec) -> str:
    """A column spec as one line of YAML: a bare column, or a mapping of what isn't the default."""
    column = quoted(spec.column or "")
    parts = [f"column: {column}"]
    if spec.path:
        parts.append(f"path: {in_quotes('.'.join(spec.path))}")
    steps = []
    for step in spec.transform:
        texts = [in_quotes(text) for text in (step.argument, *step.formats) if text]
        argument = f"[{', '.join(texts)}]" if len(texts) > 1 else "".join(texts)
        steps.append(f"{{{step.verb}: {argument}}}" if argument else step.verb)
    if steps:
        parts.append(f"transform: [{', '.join(steps)}]")
    if spec.type is not None:
        parts.append(f"type: {spec.type}")
    signs = {"decimal": spec.decimal.replace(".", ""), "thousands": spec.thousands, "strip": spec.strip}
    signs["separator"] = spec.separator if spec.separator != "," else ""
    parts += [f"{key}: {in_quotes(sign)}" for key, sign in signs.items() if sign]
    if spec.values:
        parts.append(f"values: {{{', '.join(f'{quoted(word)}: {meant}' for word, meant in spec.values)}}}")
    words = {"unit": spec.unit, "too_long": spec.too_long, "invalid": spec.invalid}
    parts += [f"{key}: {word}" for key, word in words.items() if word not in {None, "reject"}]
    if spec.nulls:
        parts.append(f"nulls: [{', '.join(map(in_quotes, spec.nulls))}]")
    return column if len(parts) == 1 else f"{{{', '.join(parts)}}}"


def comment(text: str, indent: int = 0) -> str:
    """A text as comment lines."""
    begin = f"{' ' * indent}# "
    wrapper = textwrap.TextWrapper(_WIDTH, begin, begin, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(text)


def property_line(line: PropertyLine) -> str:
    """A property's line of the job file, with its note beside it, or above where it is too long."""
    text = f"{'    ' if line.active else '    # '}{quoted(line.name)}: {spec_text(line.spec)}"
    beside = f"{text}   # {line.note}" if line.note else text
    return beside if len(beside) <= _WIDTH else f"{comment(line.note, 4)}\n{text}"


TEMPLATES: Final = Environment(  # noqa: S701 - they make text, not HTML
    loader=FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
)
TEMPLATES.globals |= {"MAX_PROPERTIES": MAX_PROPERTIES, "MIN_ID_LENGTH": MIN_ID_LENGTH}
TEMPLATES.filters |= {
    "clipped": clipped,
    "comment": comment,
    "counted": counted,
    "in_quotes": in_quotes,
    "property_line": property_line,
    "quoted": quoted,
    "spec": spec_text,
}
