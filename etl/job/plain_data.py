"""Data handed over by a program becomes the plain data of a job file, or findings where it isn't plain."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from etl.job.findings import Finding, Path
from etl.job.tree import MAX_DEPTH, MAX_PARTS

if TYPE_CHECKING:
    from etl.job.bare import Tree


def tree_of(data: Mapping[str, object]) -> tuple[dict[str, Tree], tuple[Finding, ...]]:
    """The data without what isn't plain, and a finding for each part left out."""
    copy = _Copy()
    tree = copy.mapping(data, ())
    return tree, tuple(copy.findings)


class _Copy:
    """Copies plain data; depth and size are bounded, so data that holds itself does no harm."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._parts = 0

    def mapping(self, data: Mapping[str, object], path: Path) -> dict[str, Tree]:
        tree: dict[str, Tree] = {}
        for key, value in data.items():
            if not isinstance(key, str) or not _is_text(key):
                self.findings.append(Finding(path, "a key must be text"))
            elif self._has_room(path):
                tree[str(key)] = self._value(value, (*path, str(key)))
        return tree

    def _value(self, value: object, path: Path) -> Tree:
        if isinstance(value, Mapping):
            return self.mapping(value, path)
        if isinstance(value, list | tuple):
            return [self._value(item, (*path, i)) for i, item in enumerate(value) if self._has_room(path)]
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str) and _is_text(value):
            return value
        if value is None or isinstance(value, bool | int | float):
            return value
        self.findings.append(
            Finding(path, f"a {type(value).__name__} can't be used; give it as text or a number")
        )
        return None

    def _has_room(self, path: Path) -> bool:
        """Say whether one more part below a path is allowed; that it isn't is found once."""
        self._parts += 1
        if self._parts <= MAX_PARTS and len(path) < MAX_DEPTH:
            return True
        finding = Finding(
            (), f"the data is nested deeper than {MAX_DEPTH} levels or has over {MAX_PARTS:,} parts"
        )
        if finding not in self.findings:
            self.findings.append(finding)
        return False


def _is_text(text: str) -> bool:
    """Half characters (lone surrogates) are no text that could be sent."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
