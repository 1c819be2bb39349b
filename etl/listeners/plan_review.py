"""A saved plan for the person who reviews it: lines of text, or Markdown for a pull request."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..text import columns, counted, in_columns, one_line, size, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .plan_summary import Style

# Rows of cells; the first one is the head.
Table: TypeAlias = list[tuple[str, ...]]

_MOST: Final = 40
_WIDEST: Final = 36  # columns of the name that begins a line


def review_tables(data: Mapping[str, Any]) -> Iterator[Table]:
    """What is to be reviewed in the content of a plan file, as tables."""
    plan, files, snapshot = data["plan"], data["inputs"]["files"], data["snapshot"]
    names = ", ".join(file["name"] for file in files[:3]) + (", ..." if len(files) > 3 else "")
    compared = "none: every user counts as new"
    if snapshot is not None:
        compared = f"of run {snapshot['run']}, {counted(snapshot['users'], 'user')}, {snapshot['written']}"
    yield [
        ("plan", data["digest"][:16] + "..."),
        ("job", plan["job"]),
        ("destination", plan["endpoint"]),
        (
            "source",
            f"{counted(len(files), 'file')}, {size(sum(file['bytes'] or 0 for file in files))}: {names}",
        ),
        ("snapshot", compared),
        ("takes", f"{counted(plan['requests'], 'request')}, {size(plan['bytes'])}, {span(plan['seconds'])}"),
        ("made", f"{data['made'][:19]}Z by propsync {data['propsync']}"),
        ("identifications", f"sha256 {data['identifications']['sha256'][:16]}..."),
    ]
    ends = ("rows", "accepted", "unchanged", "merged", "rejected")
    head = tuple("to be sent" if name == "accepted" else name for name in ends)
    yield [head, tuple(f"{plan[name]:,}" for name in ends)]
    if (changes := plan["changes"]) is not None:
        numbers = (plan["users"], *(changes[name] for name in ("new", "changed", "unchanged")))
        yield [("users", "new", "changed", "unchanged"), tuple(f"{number:,}" for number in numbers)]
    table: Table = [("property", "set", "unchanged", "skipped", "rejected")]
    for one in plan["properties"][:_MOST]:
        faults = (
            sum(fault["count"] for fault in plan[kind] if one["column"] and fault["column"] == one["column"])
            for kind in ("skipped", "rejected_values")
        )
        counts = (one["sent"], one["filled"] - one["sent"], *faults)
        table.append((one["property"], *(f"{count:,}" for count in counts)))
    yield table
    if (more := len(plan["properties"]) - _MOST) > 0:
        yield [(f"and {counted(more, 'more property', 'more properties')}: see --json",)]
    if plan["rejects_by_code"]:
        yield [("rejects", "rows"), *((code, f"{n:,}") for code, n in plan["rejects_by_code"].items())]
    if plan["guards"]:
        guards = (
            ("stops" if one["stops"] else "passes", f"--{one['guard']} {one['limit']}", one["found"])
            for one in plan["guards"]
        )
        yield [("guard", "limit", "found"), *guards]
    if plan["warnings"]:
        yield [("warning",), *((one["message"],) for one in plan["warnings"])]


def review_lines(data: Mapping[str, Any]) -> Iterator[tuple[str, Style]]:
    """Write the content of a plan file as lines, of at most 80 columns where names allow."""
    for number, table in enumerate(review_tables(data)):
        if number:
            yield "", ""
        shown = [tuple(map(one_line, cells)) for cells in table]
        widths = [max(map(columns, cells)) for cells in zip(*shown, strict=True)]
        if len(widths) > 1:
            widths[0] = min(widths[0], _WIDEST)
        right = [_is_number(cell) for cell in shown[-1]]
        for place, cells in enumerate(shown):
            line = ""
            for cell, width, is_right in zip(cells, widths, right, strict=True):
                line += (
                    f"  {' ' * (width - columns(cell))}{cell}" if is_right else f"  {in_columns(cell, width)}"
                )
            style: Style = "bad" if cells[0] == "stops" else "soft" if number and not place else ""
            parts = textwrap.wrap(line, 80, subsequent_indent="    ") if len(cells) == 1 else [line.rstrip()]
            yield from ((part, style) for part in parts)


def review_markdown(data: Mapping[str, Any]) -> str:
    """Write the content of a plan file as Markdown, in which names of files and properties are only text."""
    plan = data["plan"]
    stops = any(guard["stops"] for guard in plan["guards"])
    verdict = "a guard would stop the run" if stops else f"{plan['accepted']:,} updates would be sent"
    lines = [f"### propsync plan: {verdict}", ""]
    for head, *rows in review_tables(data):
        rule = tuple("---:" if rows and _is_number(cell) else "---" for cell in (rows or [head])[-1])
        cells = [head, rule, *(tuple(map(_code, row)) for row in rows)]
        lines += [*(f"| {' | '.join(row)} |" for row in cells), ""]
    return "\n".join(lines)


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").isdecimal()


def _code(text: str) -> str:
    """A number as it is, any other text as code, in which no name is a link, a mention or markup."""
    if _is_number(text) or not text.strip():
        return text
    return "`" + one_line(text).replace("`", "'").replace("|", r"\|") + "`"
