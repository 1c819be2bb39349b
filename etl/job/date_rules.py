"""What a column spec says about dates and times, and which of it would have no effect.

The rules take any data: what has the wrong shape is passed over, as the door tells that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from etl.job.findings import Finding, Path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.job.bare import Tree

_TIME_DIRECTIVES: Final = frozenset("HIMSfp")
_DATED: Final = ("date", "datetime")


def moment_findings(spec: dict[str, Tree], place: str, path: Path) -> Iterator[Finding]:
    """Everything about `timezone`, `unit` and `date_format` of a column spec that has no effect."""
    formats = date_formats(spec)
    dated = spec.get("type") in _DATED or (place == "time" and spec.get("type") is None)
    if "unit" in spec:
        if formats:
            yield Finding((*path, "unit"), "`unit` does nothing beside `date_format`: it is for numbers")
        elif not dated:
            yield Finding((*path, "unit"), "`unit` does nothing without `type: datetime` or `type: date`")
    if "timezone" in spec and (fault := _idle_zone(spec, formats, dated=dated)):
        yield Finding((*path, "timezone"), f"`timezone` {fault}")


def date_formats(spec: dict[str, Tree]) -> list[str]:
    """The formats of all `date_format` steps of a spec."""
    found: list[Tree] = []
    for step in _steps(spec):
        given = step.get("date_format") if isinstance(step, dict) else None
        found += given if isinstance(given, list) else [given]
    return [one for one in found if isinstance(one, str)]


def _idle_zone(spec: dict[str, Tree], formats: list[str], *, dated: bool) -> str | None:
    if not formats and not dated:
        return "does nothing without `type: datetime` or `type: date`"
    kind = spec.get("type")
    if "unit" in spec and kind != "date":
        return "does nothing beside `unit`: numbers since 1970 count in UTC"
    timed = any(not _TIME_DIRECTIVES.isdisjoint(re.findall(r"%(.)", one)) for one in formats)
    if formats and not timed and (kind == "date" or not dated):
        return "does nothing here: the dates of `date_format` have no time"
    last = (_steps(spec) or [None])[-1]
    if formats and not (isinstance(last, dict) and "date_format" in last):
        return "needs `date_format` to be the last step"
    return None


def _steps(spec: dict[str, Tree]) -> list[Tree]:
    steps = spec.get("transform")
    return steps if isinstance(steps, list) else [steps]
