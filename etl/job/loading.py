"""The text of a job file, or a program's data, as plain data with the line of every part.

YAML is read by its 1.2 core schema; JSON is read as the part of YAML that it is. The parser's events are
used, not its nodes: nodes have no places of aliases and tags, and composing them has no bound.
"""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import yaml

from ..errors import Fault, JobError, UsageError
from .problems import KeyPath, Problem, clipped
from .scalars import Data, PlainScalar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_CHARACTERS: Final = 1_000_000
_MAX_BYTES: Final = 4 * _MAX_CHARACTERS
_MAX_NESTING: Final = 60
MAX_PARTS: Final = 50_000

_TAG: Final = "a tag (a word with `!`) can't be used in a job file; quote the value if the `!` belongs to it"
_MERGE_KEY: Final = "`<<` can't be used in a job file; write the keys out"
_TOO_DEEP: Final = f"this is nested deeper than {_MAX_NESTING} levels"
# Outside of what YAML calls printable; the byte order mark is taken off before.
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# An escaped backslash, or the two escapes of one character.
_ESCAPED_PAIR = re.compile(r"\\\\|(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})")
# The parser's message, and ours. Those marked with + are about where the broken part begins.
_SYNTAX_ERRORS: Final = {
    r"mapping values are not allowed": "there is a `:` too many here; quote text that holds `: `, or check "
    "the indentation",
    r"could not find expected ':'": "+there is no `: ` after the key here",
    r"expected ',' or '\]'": "+the `[` opened here is never closed, or a comma is missing",
    r"expected ',' or '\}'": "+the `{` opened here is never closed, or a comma is missing",
    r"unexpected end of stream": "+the quote opened here is never closed",
    r"found duplicate anchor": "two anchors (`&name`) have one name",
    r"escape": "after a backslash in double quotes there must be an escape YAML knows; use single quotes "
    "instead",
    r"document start|incompatible YAML|directive": "this doesn't belong to the lines above, and a second "
    "document can't follow",
    r"alphabetic or numeric|anchor|alias": "a word that begins with `*` or `&` must be quoted",
    r"tag": "a word that begins with `!` must be quoted",
    r"node content": "a value is missing here, or begins with a sign that must be quoted",
    r"'-' indicator|expected key|<block end>|block mapping|block sequence": "the indentation here doesn't "
    "fit the lines above, or text after a quote isn't part of it",
    r"indentation|indent": "the indentation here doesn't fit the lines above",
}


@dataclass(frozen=True, slots=True)
class Document:
    """The data, the 1-based line of each part by its path, and the problems that leave it readable."""

    data: dict[str, Data]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


class UnreadableError(Exception):
    """The text is not a document. Carries the one problem to show."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.problem = Problem((), message, line)


def read_file(path: Path) -> str:
    """The text of a job file, or of as much as a job may have. Raises UsageError and JobError."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        remedy = f"write one with: propsync init SOURCE -o {path}"
        raise UsageError(f"{path}: there is no such job file", hint=remedy) from error
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a folder, not a job file", hint="give the job file in it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"{path}: the job file can't be read: {reason}"
        raise UsageError(message, hint="check its name and rights") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end >= _MAX_BYTES:  # cut in a character: the length is the fault
            return content.decode("utf-8", "replace")
        line = content.count(b"\n", 0, error.start) + 1
        message = "the file isn't UTF-8 text from here on; save it as UTF-8"
        raise JobError(str(path), [Fault(message, line)]) from error


def is_job_file(path: Path) -> bool:
    """Whether a file is named as a job file may be, and holds a job."""
    if path.suffix.lower() not in {".yml", ".yaml", ".json"} or not path.is_file():
        return False
    try:
        return "identification" in read_document(read_file(path)).data
    except (UnreadableError, JobError, UsageError):
        return False


def read_document(text: str) -> Document:
    """Read one YAML or JSON document whose root is a mapping. Raises UnreadableError."""
    if len(text) > _MAX_CHARACTERS:
        raise UnreadableError(f"the file is longer than {_MAX_CHARACTERS:,} characters: too long for a job")
    text = _as_yaml(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    newlines = [match.start() for match in re.finditer("\n", text)]
    last = max(len(text.rstrip()) - 1, 0)

    def line_at(index: int) -> int:
        # By newlines only, as editors count, and never past the text.
        return bisect_left(newlines, min(index, last)) + 1

    if strange := _UNPRINTABLE.search(text):
        message = f"there is a character U+{ord(strange[0]):04X}, which can't stand in a text file"
        raise UnreadableError(message, line_at(strange.start()))

    def line_of(event: yaml.Event) -> int:
        return line_at(event.start_mark.index if event.start_mark else 0)

    try:
        return _DocumentBuilder(yaml.parse(text, Loader=LOADER), line_of).document()
    except yaml.MarkedYAMLError as error:
        message, index = _syntax_error(error, text)
        raise UnreadableError(message, line_at(index)) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The parser written in Python lets these out for escapes beyond Unicode.
        raise UnreadableError("this is not YAML: an escape or a character can't be read") from error


def document_of(data: Mapping[str, object]) -> Document:
    """The document that a program's data make; for each part that isn't plain data it has a problem."""
    problems: dict[Problem, None] = {}
    parts = 0

    def copied(given: object, path: KeyPath) -> Data:
        nonlocal parts
        parts += 1
        if parts > MAX_PARTS or len(path) > _MAX_NESTING:
            message = f"the data is nested deeper than {_MAX_NESTING} levels or has over {MAX_PARTS:,} parts"
            problems[Problem((), message)] = None
        elif isinstance(given, Mapping):
            keys = [key for key in given if isinstance(key, str) and not _SURROGATE.search(key)]
            if len(keys) < len(given):
                problems[Problem(path, "a key must be text")] = None
            return {str(key): copied(given[key], (*path, str(key))) for key in keys}
        elif isinstance(given, list | tuple):
            return [copied(item, (*path, number)) for number, item in enumerate(given)]
        elif isinstance(given, os.PathLike):
            return copied(os.fspath(given), path)
        elif isinstance(given, str) and not _SURROGATE.search(given):
            return given
        elif given is not None and not isinstance(given, bool | int | float):
            message = f"a {type(given).__name__} can't be used; give it as text or a number"
            problems[Problem(path, message)] = None
        else:
            return given
        return None

    copy = copied(data, ())
    return Document(copy if isinstance(copy, dict) else {}, {}, tuple(problems))


class _DocumentBuilder:
    """Builds a document from a parser's events; nothing here constructs objects.

    Depth is bounded, and so is the number of parts with every alias counted as often as it is used; tags,
    merge keys and a second document are refused.
    """

    def __init__(self, events: Iterator[yaml.Event], line_of: Callable[[yaml.Event], int]) -> None:
        self._events, self._line_of = events, line_of
        self._parts = 0
        # By anchor: the value with the number of its parts, or None while it isn't complete.
        self._anchored: dict[str, tuple[Data, int] | None] = {}
        self._lines: dict[KeyPath, int] = {}
        self._problems: list[Problem] = []

    def document(self) -> Document:
        """The one document of the events. Raises UnreadableError, and yaml.YAMLError as the parser does."""
        data: Data = None
        starts = (event for event in self._events if isinstance(event, yaml.DocumentStartEvent))
        for number, event in enumerate(starts):
            if number:
                message = "a second document begins here: a file holds one job"
                raise UnreadableError(message, self._line_of(event))
            data = self._node(next(self._events), ())
        if data is None or data == "":
            raise UnreadableError("the file is empty: a job needs at least `identification`")
        if not isinstance(data, dict):
            raise UnreadableError("a job file is a mapping: lines such as `source: users.csv`", 1)
        return Document(data, self._lines, tuple(self._problems))

    def _count(self, event: yaml.Event, parts: int) -> None:
        self._parts += parts
        if self._parts > MAX_PARTS:
            message = f"the file has more than {MAX_PARTS:,} parts, each alias counted as often as it is used"
            raise UnreadableError(message, self._line_of(event))

    def _node(self, event: yaml.Event, path: KeyPath) -> Data:
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            name = clipped(str(anchor))
            if anchor not in self._anchored:
                message = f"`*{name}` refers to nothing: no `&{name}` before it"
                raise UnreadableError(message, self._line_of(event))
            if (known := self._anchored[anchor]) is None:
                raise UnreadableError(f"`*{name}` stands inside of what it refers to", self._line_of(event))
            self._count(event, known[1])
            return known[0]
        before = self._parts
        self._count(event, 1)
        if getattr(event, "tag", None) is not None:
            self._problems.append(Problem(path, _TAG, self._line_of(event)))
        if anchor is not None:
            self._anchored[anchor] = None
        if not isinstance(event, yaml.ScalarEvent) and len(path) >= _MAX_NESTING:
            raise UnreadableError(_TOO_DEEP, self._line_of(event))
        value: Data
        if isinstance(event, yaml.ScalarEvent):
            value = self._text(event)
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(path)
        else:
            value = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                place = (*path, len(value))
                self._lines[place] = self._line_of(event)
                value.append(self._node(event, place))
        if anchor is not None:
            self._anchored[anchor] = value, self._parts - before
        return value

    def _mapping(self, path: KeyPath) -> dict[str, Data]:
        values: dict[str, Data] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = self._line_of(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise UnreadableError("a key must be a plain word", line)
            self._count(event, 1)
            key = str(self._text(event))
            message = None
            if key == "<<":
                message = _MERGE_KEY
            elif key in values:
                first = self._lines[(*path, key)]
                message = f"`{clipped(key)}` is given a second time; the first is in line {first}"
            if message:
                self._problems.append(Problem((*path, key), message, line))
            # An entry that can't be used gets a path that no right entry has.
            place = (*path, -line if message else key)
            self._lines[place] = line
            value = self._node(next(self._events), place)
            if not message:
                values[key] = value
        return values

    def _text(self, event: yaml.ScalarEvent) -> str:
        value: str = event.value
        if half := _SURROGATE.search(value):
            raise UnreadableError(f"\\u{ord(half[0]):04x} is half a character", self._line_of(event))
        return value if event.style else PlainScalar(value)


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> tuple[str, int]:
    """The message for a syntax error in `text`, and the index in it (in characters) where it stands."""
    problem = error.problem or ""
    index = error.problem_mark.index if error.problem_mark else 0
    if "nesting depth" in problem:  # newer parsers have a bound of their own, and meet it while looking ahead
        return _TOO_DEEP, index
    if "cannot start any token" in problem:
        sign = text[index : index + 1]
        if sign == "\t":
            return "this is not YAML: a tab can't indent; use spaces", index
        sign = "a backquote" if sign == "`" else f"`{sign}`"
        return f"this is not YAML: a word that begins with {sign} must be quoted", index
    for pattern, words in _SYNTAX_ERRORS.items():
        if re.search(pattern, problem):
            begun = error.context_mark if words.startswith("+") else None
            return f"this is not YAML: {words.removeprefix('+')}", begun.index if begun else index
    return f"this is not YAML: {problem}", index


def _as_yaml(text: str) -> str:
    """JSON may indent with tabs and write a character as two surrogate escapes; YAML may not."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _ESCAPED_PAIR.sub(
        lambda found: json.loads(f'"{found[0]}"') if found[1] else found[0], text.replace("\t", " ")
    )
