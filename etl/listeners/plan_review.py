"""A saved plan for the person who reviews it: lines of text, or Markdown for a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..text import columns, counted, one_line, size, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .plan_summary import Style

_MOST: Final = 40
_ENDS: Final = {"accepted": "to be sent"} | {name: name for name in ("unchanged", "merged", "rejected")}
_HEAD: Final = ("property", "set", "unchanged", "skipped", "rejected")


def property_counts(plan: Mapping[str, Any]) -> list[tuple[str, int, int, int, int]]:
    """Each property, by how many rows it is set, is as before, is left out, and is why they are rejects."""

    def faults(found: list[dict[str, Any]], column: str | None) -> int:
        return sum(one["count"] for one in found if column and one["column"] == column)

    return [
        (
            one["property"],
            one["sent"],
            one["filled"] - one["sent"],
            faults(plan["skipped"], one["column"]),
            faults(plan["rejected_values"], one["column"]),
        )
        for one in plan["properties"]
    ]


def review_lines(data: Mapping[str, Any]) -> Iterator[tuple[str, Style]]:
    """Write the content of a plan file as lines of at most 80 columns where names allow."""
    plan = data["plan"]
    yield f"plan of {one_line(plan['job'])} to {one_line(plan['endpoint'])}", "head"
    yield "", ""
    for label, text in _facts(data):
        yield f"  {label:<17}{one_line(text)}", ""
    yield "", ""
    yield f"  rows            {plan['rows']:>13,}", ""
    for name, words in _ENDS.items():
        yield f"    {words:<14}{plan[name]:>13,}", "bad" if name == "rejected" and plan[name] else ""
    if plan["changes"]:
        yield f"  users           {plan['users']:>13,}", ""
        for name in ("new", "changed", "unchanged"):
            yield f"    {name:<14}{plan['changes'][name]:>13,}", ""
    table = property_counts(plan)
    if table:
        yield "", ""
        width = min(max(columns(one_line(name)) for name, *_ in [_HEAD, *table]), 32)
        yield f"  {_HEAD[0]:<{width}}" + "".join(f"{word:>11}" for word in _HEAD[1:]), "soft"
    for name, *counts in table[:_MOST]:
        shown = one_line(name)
        yield f"  {shown:<{width - columns(shown) + len(shown)}}" + "".join(f"{n:>11,}" for n in counts), ""
    if len(table) > _MOST:
        yield f"  and {counted(len(table) - _MOST, 'more property', 'more properties')}: see --json", "soft"
    yield "", ""
    for guard in plan["guards"]:
        text = f"  {'STOPS' if guard['stops'] else 'passes'}  --{guard['guard']} {guard['limit']}"
        yield f"{text}: {guard['found']}", "bad" if guard["stops"] else ""
    for code, count in plan["rejects_by_code"].items():
        yield f"  rejected: {one_line(code)}: {count:,}", "bad"
    for warning in plan["warnings"]:
        yield f"  warning: {one_line(warning['message'])}", "warning"


def review_markdown(data: Mapping[str, Any]) -> str:
    """Write the content of a plan file as Markdown, in which names of files and properties are only text."""
    plan = data["plan"]
    stops = [guard for guard in plan["guards"] if guard["stops"]]
    verdict = "a guard would stop the run" if stops else f"{plan['accepted']:,} updates would be sent"
    lines = [f"### propsync plan: {_code(plan['job'])}: {verdict}", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {label} | {_code(text)} |" for label, text in _facts(data)]
    lines += ["", "| rows | to be sent | unchanged | merged | rejected |", "|---:|---:|---:|---:|---:|"]
    lines.append(_cells(f"{plan[name]:,}" for name in ("rows", *_ENDS)))
    if plan["changes"]:
        changes = plan["changes"]
        lines += ["", "| users | new | changed | unchanged |", "|---:|---:|---:|---:|"]
        numbers = (plan["users"], *(changes[name] for name in ("new", "changed", "unchanged")))
        lines.append(_cells(f"{number:,}" for number in numbers))
    lines += ["", _cells(_HEAD), "|---|---:|---:|---:|---:|"]
    table = property_counts(plan)
    lines += [_cells([_code(name), *(f"{n:,}" for n in counts)]) for name, *counts in table[:_MOST]]
    if len(table) > _MOST:
        lines += ["", f"and {len(table) - _MOST:,} more"]
    if plan["guards"]:
        lines += ["", "| guard | limit | found | |", "|---|---|---|---|"]
        for guard in plan["guards"]:
            cells = _code(f"--{guard['guard']}"), _code(guard["limit"]), _code(guard["found"])
            lines.append(_cells((*cells, "**stops**" if guard["stops"] else "passes")))
    if plan["rejects_by_code"]:
        lines += ["", "| rejects | rows |", "|---|---:|"]
        lines += [_cells((_code(code), f"{count:,}")) for code, count in plan["rejects_by_code"].items()]
    lines += [
        line for warning in plan["warnings"] for line in ("", f"**Warning:** {_code(warning['message'])}")
    ]
    return "\n".join(lines)


def _facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of what the plan was made: label and text."""
    plan, files, snapshot = data["plan"], data["inputs"]["files"], data["snapshot"]
    sizes = f", {size(sum(file['bytes'] or 0 for file in files))}"
    names = ", ".join(file["name"] for file in files[:3]) + (", ..." if len(files) > 3 else "")
    compared = "none: every user counts as new"
    if snapshot is not None:
        compared = f"of run {snapshot['run']}, {snapshot['users']:,} users, {snapshot['written']}"
    took = f"{counted(plan['requests'], 'request')}, {size(plan['bytes'])}, {span(plan['seconds'])}"
    return [
        ("destination", plan["endpoint"]),
        ("source", f"{counted(len(files), 'file')}{sizes}: {names}"),
        ("snapshot", compared),
        ("takes", took),
        ("made", f"{data['made'][:19]}Z by propsync {data['propsync']}"),
        ("identifications", f"sha256 {data['identifications']['sha256'][:16]}..."),
        ("plan", data["digest"][:16] + "..."),
    ]


def _code(text: str) -> str:
    """The text as code, in which no name is a link, a mention or markup."""
    shown = one_line(text).replace("`", "'").replace("|", r"\|")
    return f"`{shown}`" if shown.strip() else ""


def _cells(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
