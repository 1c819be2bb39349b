"""A plan as lines of text, made of its JSON object; and a saved plan for review, also as Markdown."""

from __future__ import annotations

import json
import re
import textwrap
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ..amplitude.requests import TRANSPORT_RULES
from ..tally import ROW_ENDS
from ..text import MASK, columns, counted, in_columns, in_table, one_line, share, size, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A line, and the name of its style.
Line: TypeAlias = "tuple[str, Style]"
# Rows of cells; the first one is the head.
Table: TypeAlias = list[tuple[str, ...]]
Style: TypeAlias = Literal["", "head", "bad", "warning", "soft"]
WIDTH: Final = 80
_MOST_ROWS: Final = 40
_LONG: Final = 60.0  # seconds from which on it matters when a run ends, and how long other rates take


def has_known_users(plan: Mapping[str, Any]) -> bool:
    """Whether the users of a plan are compared with those of an earlier run."""
    changes = plan["changes"]
    return changes is not None and changes["new"] != plan["users"]


def effort_of(plan: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What a run of the plan takes: name, figure, and a remark."""
    packed = "before compression" if TRANSPORT_RULES[plan["transport"]].gzipped else ""
    found = [
        ("requests", f"{plan['requests']:,}", ""),
        ("bytes", size(plan["bytes"]), packed),
        ("time", span(plan["seconds"]), "at the given rate"),
    ]
    if plan["seconds"] >= _LONG:
        end = datetime.fromisoformat(plan["ends_at"])
        found.append(("end", f"{end:%H:%M}", f"on {end:%Y-%m-%d}, if it begins now"))
    return found


def other_rates(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How long the plan takes at some rates; nothing where it is short at all of them."""
    found = plan["seconds_by_rate"]
    if max(found.values(), default=0.0) < _LONG:
        return []
    return [(f"{int(rate):,} a second", span(seconds)) for rate, seconds in found.items()]


def distinct_of(found: Mapping[str, Any]) -> str:
    """How many distinct values there are; ">" stands before it if there were too many to count."""
    return f"{found['distinct']:,}" if found["distinct_is_exact"] else f">{found['distinct'] - 1:,}"


def value_text(value: object) -> str:
    """A value on one line."""
    return MASK if value == MASK else one_line(json.dumps(value, ensure_ascii=False))


def options_text(options: Mapping[str, Any] | str) -> str:
    """How a value is made from its column, in the words of the job file; a text stays as it is."""
    if isinstance(options, str):
        return options

    def written(value: object) -> str:
        """Text bare where no sign in it can be taken for one of the sentence."""
        text = value if isinstance(value, str) else ""
        return (
            text if re.fullmatch(r"[^\s,;\"]*\w[^\s,;\"]*", text) else json.dumps(value, ensure_ascii=False)
        )

    phrases: list[str] = []
    for name, value in options.items():
        if name == "transform":
            phrases += (" ".join(map(written, step.values())) for step in value)
        elif name == "values":
            phrases.append(f"values: {{{', '.join(f'{word}: {meant}' for word, meant in value)}}}")
        else:
            phrases.append(f"{name.replace('_', ' ')}: {written(value)}")
    return ", ".join(phrases)


def plan_lines(plan: Mapping[str, Any]) -> Iterator[Line]:
    """Write a plan, given as its JSON object, as lines of at most 80 columns where names allow."""
    yield f"{one_line(plan['job'])}: {counted(plan['files'], 'file')} to {one_line(plan['endpoint'])}", "head"
    yield "", ""
    yield f"  rows           {plan['rows']:>13,}", ""
    for name in ROW_ENDS:
        style: Style = "bad" if name == "rejected" and plan[name] else ""
        yield f"    {'to be sent' if name == 'accepted' else name:<13}{plan[name]:>13,}", style
    yield "", ""
    for label, figure, remark in effort_of(plan):
        yield f"  {label:<15}{figure:>13}  {remark}".rstrip(), ""
    for label, figure in other_rates(plan):
        yield f"    {label:<15}{figure:>11}", "soft"
    yield "", ""
    changes = plan["changes"]
    if not has_known_users(plan):  # a first run has nothing to compare with
        yield f"  users          {plan['users']:>13,}", ""
    else:
        yield f"  users new      {changes['new']:>13,}", ""
        yield f"    changed      {changes['changed']:>13,}", ""
        yield f"    unchanged    {changes['unchanged']:>13,}", ""
    yield from _property_lines(plan["properties"])
    yield from _change_lines(changes["by_property"] if changes else {})
    for code, count in plan["rejects_by_code"].items():
        yield "", ""
        yield f"  {one_line(code)}: {count:,}", "bad"
        for one in plan["reject_examples"][code]:
            yield f"    {one_line(one['source'])} row {one['row']:,}: {one_line(one['reason'])}", ""
    yield from _fault_lines("faults of rejected rows, by column", plan["rejected_values"])
    yield from _fault_lines("values left out of rows that went without them", plan["skipped"])
    if plan["warnings"]:
        yield "", ""
    for warning in plan["warnings"]:
        text = f"warning: {one_line(warning['message'])}"
        for part in textwrap.wrap(text, WIDTH - 1, initial_indent="  ", subsequent_indent="    "):
            yield part, "warning"


def _property_lines(found: list[dict[str, Any]]) -> Iterator[Line]:
    if not found:
        return
    table = [("property", "type", "filled", "distinct")]
    for one in found[:_MOST_ROWS]:
        shown = one_line(one["property"].removeprefix("$set."))
        types = ", ".join(one["types"]) or "-"
        table.append((shown, types, share(one["filled"], one["rows"]), distinct_of(one)))
    begins = [f"  {line}  " for line in in_table(table, right={2, 3}, most=(22, 12, 8, 10))]
    yield "", ""
    yield f"{begins[0]}most frequent values", "soft"
    for begin, one in zip(begins[1:], found, strict=False):
        yield f"{begin}{_top_values(one, WIDTH - columns(begin))}".rstrip(), ""
    yield from ((f"  {line}", "soft") for line in _more_properties(found))


def _more_properties(found: list[Any]) -> list[str]:
    more = len(found) - _MOST_ROWS
    return [f"and {counted(more, 'more property', 'more properties')}: see --json"] if more > 0 else []


def _change_lines(by_property: Mapping[str, Any]) -> Iterator[Line]:
    for name, change in by_property.items():
        if change["changed"]:
            yield "", ""
            yield f"  {one_line(name)}: {change['changed']:,} changed", "head"
            for example in change["examples"]:
                yield f"    {one_line(example['user'])}: now {value_text(example['new'])}", ""


def _fault_lines(title: str, found: list[dict[str, Any]]) -> Iterator[Line]:
    named = [one for one in found if one["column"] or one["values"]]
    if not named:
        return
    rows = [(one_line(f"{one['column']}: {one['code']}"), f"{one['count']:,}") for one in named[:_MOST_ROWS]]
    yield "", ""
    yield f"  {title}", "head"
    for line, one in zip(in_table(rows, right={1}), named, strict=False):
        yield f"    {line}  {_top_values(one, WIDTH - columns(line) - 6, quoted=True)}".rstrip(), ""
    if len(named) > _MOST_ROWS:
        yield f"    and {len(named) - _MOST_ROWS:,} more: see --json", "soft"


def _top_values(found: Mapping[str, Any], room: int, *, quoted: bool = False) -> str:
    """The most frequent values with their counts, as far as they fit; one example if all are distinct."""
    pairs = [(one["value"], one["count"]) for one in found["values"]]
    write = one_line if quoted else value_text
    if not pairs:
        return ""
    if len(pairs) > 1 and pairs[0][1] == 1 and not quoted:
        return in_columns(f"e.g. {write(pairs[0][0])}", room).rstrip()
    phrases = [f"{write(value)} ({count:,})" if len(pairs) > 1 else write(value) for value, count in pairs]
    for count in range(len(phrases), 0, -1):
        more = ", ..." if count < len(phrases) or found["distinct"] > count else ""
        text = ", ".join(phrases[:count]) + more
        if columns(text) <= room:
            return text
    return in_columns(phrases[0], max(room, 12)).rstrip()


# --- a saved plan ---------------------------------------------------------------------------------------

_WIDEST: Final = 36  # columns of the name that begins a line of a review


def review_tables(data: Mapping[str, Any]) -> Iterator[Table]:
    """What is to be reviewed in the content of a plan file, as tables."""
    plan, files, snapshot = data["plan"], data["inputs"]["files"], data["snapshot"]
    total = size(sum(file["bytes"] or 0 for file in files))
    names = ", ".join(file["name"] for file in files[:3]) + (", ..." if len(files) > 3 else "")
    compared = "none: every user counts as new"
    if snapshot is not None:
        compared = f"of run {snapshot['run']}, {counted(snapshot['users'], 'user')}, {snapshot['written']}"
    yield [
        ("plan", data["digest"][:16] + "..."),
        ("job", plan["job"]),
        ("destination", plan["endpoint"]),
        ("source", f"{counted(len(files), 'file')}, {total}: {names}"),
        ("snapshot", compared),
        ("takes", f"{counted(plan['requests'], 'request')}, {size(plan['bytes'])}, {span(plan['seconds'])}"),
        ("made", f"{data['made'][:19]}Z by propsync {data['propsync']}"),
        ("identifications", f"sha256 {data['identifications']['sha256'][:16]}..."),
    ]
    ends = ("rows", *ROW_ENDS)
    head = tuple("to be sent" if name == "accepted" else name for name in ends)
    yield [head, tuple(f"{plan[name]:,}" for name in ends)]
    if (changes := plan["changes"]) is not None:
        numbers = (plan["users"], *(changes[name] for name in ("new", "changed", "unchanged")))
        yield [("users", "new", "changed", "unchanged"), tuple(f"{number:,}" for number in numbers)]
    table: Table = [("property", "set", "unchanged", "skipped", "rejected")]
    for one in plan["properties"][:_MOST_ROWS]:
        faults = (
            sum(fault["count"] for fault in plan[kind] if one["column"] and fault["column"] == one["column"])
            for kind in ("skipped", "rejected_values")
        )
        counts = (one["sent"], one["filled"] - one["sent"], *faults)
        table.append((one["property"], *(f"{count:,}" for count in counts)))
    yield table
    for line in _more_properties(plan["properties"]):
        yield [(line,)]
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


def review_lines(data: Mapping[str, Any]) -> Iterator[Line]:
    """Write the content of a plan file as lines, of at most 80 columns where names allow."""
    for number, table in enumerate(review_tables(data)):
        if number:
            yield "", ""
        shown = [tuple(map(one_line, cells)) for cells in table]
        right = {place for place, cell in enumerate(shown[-1]) if _is_number(cell)}
        most = (_WIDEST,) if len(shown[0]) > 1 else ()
        for place, line in enumerate(in_table(shown, right=right, most=most)):
            style: Style = "bad" if shown[place][0] == "stops" else "soft" if number and not place else ""
            parts = textwrap.wrap(line, WIDTH - 2, subsequent_indent="  ") if not most else [line]
            yield from ((f"  {part}", style) for part in parts)


def review_markdown(data: Mapping[str, Any]) -> str:
    """Write the content of a plan file as Markdown, in which names of files and properties are only text."""
    plan = data["plan"]
    verdict = f"{counted(plan['accepted'], 'update')} would be sent"
    if any(guard["stops"] for guard in plan["guards"]):
        verdict = "a guard would stop the run"
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
