"""A parser's events become plain data with the line of every part, however hostile the text.

Nothing here constructs objects. Depth is bounded, and so is the number of parts with every alias counted as
often as it is used; tags, merge keys and a second document are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import yaml

from etl.job.bare import Bare, Tree
from etl.job.findings import Finding, Path, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_DEPTH: Final = 60
MAX_PARTS: Final = 50_000

TAG = "a tag (a word with `!`) can't be used in a job file; quote the value if the `!` belongs to it"
MERGE_KEY = "`<<` can't be used in a job file; write the keys out"


@dataclass(frozen=True, slots=True)
class Document:
    """The data, the 1-based line of each part by its path, and the faults that leave it readable."""

    data: dict[str, Tree]
    lines: dict[Path, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


class UnreadableError(Exception):
    """The text is no document at all. Carries the one finding to show."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.finding = Finding((), message, line)


class TreeBuilder:
    """Builds a document from the events of one; `line_at` tells the line of an index in the text."""

    def __init__(self, events: Iterator[yaml.Event], line_at: Callable[[int], int]) -> None:
        self._events = events
        self._line_at = line_at
        self._parts = 0
        self._finished: dict[str, tuple[Tree, int]] = {}
        self._unfinished: set[str] = set()
        self._lines: dict[Path, int] = {}
        self._findings: list[Finding] = []

    def document(self) -> Document:
        """The one document of the events. Raises UnreadableError, and yaml.YAMLError as they come."""
        data: Tree = None
        for begun, event in enumerate(self._starts()):
            if begun:
                raise UnreadableError(
                    "a second document begins here: a file holds one job", self._line(event)
                )
            data = self._node(next(self._events), ())
        if data is None or data == "":
            raise UnreadableError("the file is empty: a job needs at least `identification`")
        if not isinstance(data, dict):
            raise UnreadableError("a job file is a mapping: lines such as `source: users.csv`", 1)
        return Document(data, self._lines, tuple(self._findings))

    def _starts(self) -> Iterator[yaml.Event]:
        return (event for event in self._events if isinstance(event, yaml.DocumentStartEvent))

    def _line(self, event: yaml.Event) -> int:
        mark = event.start_mark
        return self._line_at(mark.index if mark else 0)

    def _count(self, event: yaml.Event, parts: int) -> None:
        self._parts += parts
        if self._parts > MAX_PARTS:
            message = (
                f"the file has more than {MAX_PARTS:,} parts, counting aliases as often as they are used"
            )
            raise UnreadableError(message, self._line(event))

    def _node(self, event: yaml.Event, path: Path) -> Tree:
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        before = self._parts
        self._count(event, 1)
        if getattr(event, "tag", None) is not None:
            self._findings.append(Finding(path, TAG, self._line(event)))
        anchor = getattr(event, "anchor", None)
        if anchor is None:
            return self._content(event, path)
        self._unfinished.add(anchor)
        value = self._content(event, path)
        self._unfinished.discard(anchor)
        self._finished[anchor] = (value, self._parts - before)
        return value

    def _aliased(self, event: yaml.AliasEvent) -> Tree:
        name = shown(str(event.anchor))
        if event.anchor in self._unfinished:
            raise UnreadableError(f"`*{name}` stands inside of what it refers to", self._line(event))
        if event.anchor not in self._finished:
            raise UnreadableError(f"`*{name}` refers to nothing: no `&{name}` before it", self._line(event))
        value, parts = self._finished[event.anchor]
        self._count(event, parts)
        return value

    def _content(self, event: yaml.Event, path: Path) -> Tree:
        if isinstance(event, yaml.ScalarEvent):
            return self._text(event)
        if len(path) >= MAX_DEPTH:
            raise UnreadableError(f"this is nested deeper than {MAX_DEPTH} levels", self._line(event))
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._list(path)

    def _text(self, event: yaml.ScalarEvent) -> str:
        value: str = event.value
        if half := re.search("[\ud800-\udfff]", value):
            raise UnreadableError(f"\\u{ord(half[0]):04x} is half a character", self._line(event))
        return value if event.style else Bare(value)

    def _list(self, path: Path) -> list[Tree]:
        values: list[Tree] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            place = (*path, len(values))
            self._lines[place] = self._line(event)
            values.append(self._node(event, place))
        return values

    def _mapping(self, path: Path) -> dict[str, Tree]:
        values: dict[str, Tree] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, line = self._key(event), self._line(event)
            place = self._place(path, key, line, again=key in values)
            self._lines[place] = line
            value = self._node(next(self._events), place)
            if place[-1] == key:
                values[key] = value
        return values

    def _key(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise UnreadableError("a key must be a plain word", self._line(event))
        self._count(event, 1)
        return str(self._text(event))

    def _place(self, path: Path, key: str, line: int, *, again: bool) -> Path:
        """The path of an entry; what can't be used gets one that no right entry has."""
        place: Path = (*path, key)
        if key == "<<":
            self._findings.append(Finding(place, MERGE_KEY, line))
        elif again:
            message = f"`{shown(key)}` is given a second time; the first is in line {self._lines[place]}"
            self._findings.append(Finding(place, message, line))
        else:
            return place
        return (*path, -line)
