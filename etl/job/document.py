"""The text of a job file becomes a document, or one finding that says in plain words why not.

YAML is read by its 1.2 core schema; JSON is read as the part of YAML that it is.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

import yaml

from etl.job.syntax import in_plain_words
from etl.job.tree import Document, TreeBuilder, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_CHARACTERS: Final = 1_000_000

# Outside of what YAML calls printable; the byte order mark is taken off before.
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_PAIR = re.compile(r"\\\\|\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def read_document(text: str) -> Document:
    """Read one YAML or JSON document whose root is a mapping. Raises UnreadableError."""
    if len(text) > MAX_CHARACTERS:
        raise UnreadableError(f"the file is longer than {MAX_CHARACTERS:,} characters: too long for a job")
    text = _as_yaml(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    line_at = _lines(text)
    if strange := _UNPRINTABLE.search(text):
        message = f"there is a character U+{ord(strange[0]):04X}, which can't stand in a text file"
        raise UnreadableError(message, line_at(strange.start()))
    try:
        return TreeBuilder(yaml.parse(text, Loader=LOADER), line_at).document()
    except yaml.MarkedYAMLError as error:
        message, index = in_plain_words(error, text)
        raise UnreadableError(message, line_at(index)) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The parser written in Python lets these out for escapes beyond Unicode.
        raise UnreadableError("this is no YAML: an escape or a character can't be read") from error


def _lines(text: str) -> Callable[[int], int]:
    """Tell the 1-based line of an index: by newlines only, as editors count, and never past the text."""
    newlines = [match.start() for match in re.finditer("\n", text)]
    last = max(len(text.rstrip()) - 1, 0)
    return lambda index: bisect_left(newlines, min(index, last)) + 1


def _as_yaml(text: str) -> str:
    """JSON may indent with tabs and write a character as two surrogate escapes; YAML may not."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _PAIR.sub(_one_escape, text.replace("\t", " "))


def _one_escape(match: re.Match[str]) -> str:
    if match[1] is None:  # an escaped backslash
        return match[0]
    high, low = int(match[1], 16) - 0xD800, int(match[2], 16) - 0xDC00
    return f"\\U{0x10000 + high * 0x400 + low:08X}"
