"""What `changes` and `absent` mean together with the rest of a job file.

The rules take any data: what has the wrong shape is passed over, as the door tells that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.amplitude import UNREPEATABLE
from etl.job.findings import Finding, Path, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from etl.job.bare import Tree

# A column spec with its path and place, as the rules find them.
Specs = list[tuple[Path, str, "Tree"]]


def changes_findings(data: Mapping[str, Tree], specs: Specs) -> Iterator[Finding]:
    """Everything that is wrong with the sense of `changes` and `absent`."""
    changes = data.get("changes")
    changes = changes if isinstance(changes, dict) else {"by": changes}
    unrepeatable = sorted({place for _, place, spec in specs if place in UNREPEATABLE and spec})
    if changes.get("by") == "user" and unrepeatable:
        yield Finding(("changes", "by"), _always(unrepeatable))
    if changes.get("by") == "off":
        yield from _idle(data, changes)
    yield from _absent(data, specs, unrepeatable)
    yield from _ignored(changes.get("ignore"), specs)


def _always(operators: list[str]) -> str:
    return (
        f"`changes: user` sends users whole or not at all, and {', '.join(operators)} must go for every row: "
        "use `changes: property`, or `changes: off`"
    )


def _idle(data: Mapping[str, Tree], changes: Mapping[str, Tree]) -> Iterator[Finding]:
    if changes.get("ignore"):
        yield Finding(("changes", "ignore"), "`ignore` does nothing with `off`: nothing is compared")
    if data.get("absent") == "unset":
        message = "`absent: unset` needs to know who was there before: not with `changes: off`"
        yield Finding(("absent",), message)


def _absent(data: Mapping[str, Tree], specs: Specs, unrepeatable: list[str]) -> Iterator[Finding]:
    if data.get("absent") != "unset":
        return
    if unrepeatable:
        message = (
            f"`absent: unset` can't be meant with {', '.join(unrepeatable)}: who isn't in an export of "
            "increments hasn't left"
        )
        yield Finding(("absent",), message)
    if not any(place.startswith("$") for _, place, _ in specs):
        yield Finding(("absent",), "`absent: unset` has nothing to unset: the job sets no user property")


def _ignored(ignore: Tree, specs: Specs) -> Iterator[Finding]:
    used = {_column(spec): place for _, place, spec in specs if place not in UNREPEATABLE}
    always = {_column(spec): place for _, place, spec in specs if place in UNREPEATABLE}
    for number, name in enumerate(ignore if isinstance(ignore, list) else ()):
        path: Path = ("changes", "ignore", number)
        if not isinstance(name, str):
            continue
        if name in always:
            message = f"`{shown(name)}` can't be ignored: {always[name]} goes for every row"
            yield Finding(path, message)
        elif name not in used:
            known = [column for column in used if column is not None]
            message = f"`{shown(name)}` is no column that the job sends{did_you_mean(name, known)}"
            yield Finding(path, message)


def _column(spec: Tree) -> str | None:
    """The column of a spec, a bare word or a mapping; None for constants and for what has no sense."""
    column = spec.get("column") if isinstance(spec, dict) else spec
    return column if isinstance(column, str) else None
