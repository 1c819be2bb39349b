"""What a YAML parser complains of, in words that somebody who never read YAML's grammar can act on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from etl.job.tree import MAX_DEPTH

if TYPE_CHECKING:
    import yaml

# (the parser's complaint, our words, whether the place is where the broken thing begins)
_COMPLAINTS: Final = (
    (
        r"mapping values are not allowed",
        "there is a `:` too many here; quote text that holds `: `, or check the indentation",
        False,
    ),
    (r"could not find expected ':'", "there is no `: ` after the key here", True),
    (r"expected ',' or '\]'", "the `[` opened here is never closed, or a comma is missing", True),
    (r"expected ',' or '\}'", "the `{` opened here is never closed, or a comma is missing", True),
    (r"unexpected end of stream", "the quote opened here is never closed", True),
    (r"found duplicate anchor", "two anchors (`&name`) have one name", False),
    (
        r"escape",
        "after a backslash in double quotes there must be an escape YAML knows; use single quotes instead",
        False,
    ),
    (
        r"document start|incompatible YAML|directive",
        "this doesn't belong to what stands above it, and a second document can't follow",
        False,
    ),
    (r"alphabetic or numeric|anchor|alias", "a word that begins with `*` or `&` must be quoted", False),
    (r"tag", "a word that begins with `!` must be quoted", False),
    (r"node content", "a value is missing here, or begins with a sign that must be quoted", False),
    (
        r"'-' indicator|expected key|<block end>|block mapping|block sequence",
        "the indentation here doesn't fit the lines above, or text after a quote isn't part of it",
        False,
    ),
    (r"indentation|indent", "the indentation here doesn't fit the lines above", False),
)


def in_plain_words(error: yaml.MarkedYAMLError, text: str) -> tuple[str, int]:
    """The message for a syntax error in `text`, and the index in it (in characters) where it stands."""
    problem = error.problem or ""
    index = error.problem_mark.index if error.problem_mark else 0
    if "nesting depth" in problem:  # newer parsers have a bound of their own, and meet it while looking ahead
        return f"this is nested deeper than {MAX_DEPTH} levels", index
    if "cannot start any token" in problem:
        return _wrong_start(text[index : index + 1]), index
    for pattern, words, at_beginning in _COMPLAINTS:
        if re.search(pattern, problem):
            begun = error.context_mark if at_beginning else None
            return f"this is no YAML: {words}", begun.index if begun else index
    return f"this is no YAML: {problem}", index


def _wrong_start(sign: str) -> str:
    if sign == "\t":
        return "this is no YAML: a tab can't indent; use spaces"
    sign = "a backquote" if sign == "`" else f"`{sign}`"
    return f"this is no YAML: a word that begins with {sign} must be quoted"
