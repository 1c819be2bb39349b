"""A plan in words: lines of text for people, of the JSON object of the plan."""

from __future__ import annotations

import json
import textwrap
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ..amplitude.limits import TRANSPORT_RULES
from ..text import MASK, columns, counted, in_columns, one_line, share, size, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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
    """How many distinct values there are; "over" where they were too many to be counted."""
    return f"{found['distinct']:,}" if found["distinct_is_exact"] else f">{found['distinct'] - 1:,}"


def value_text(value: object) -> str:
    """A value on one line."""
    return MASK if value == MASK else one_line(json.dumps(value, ensure_ascii=False))


def plan_lines(plan: Mapping[str, Any]) -> Iterator[tuple[str, Style]]:
    """Write a plan, given as its JSON object, as lines of at most 80 columns where names allow."""
    yield f"{one_line(plan['job'])}: {counted(plan['files'], 'file')} to {one_line(plan['endpoint'])}", "head"
    yield "", ""
    yield f"  rows           {plan['rows']:>13,}", ""
    for name in ("accepted", "unchanged", "merged", "rejected"):
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


def _property_lines(found: list[dict[str, Any]]) -> Iterator[tuple[str, Style]]:
    if not found:
        return
    table = [("property", "type", "filled", "distinct")]
    for one in found[:_MOST_ROWS]:
        types = ", ".join(one["types"]) or "-"
        shown = one_line(one["property"].removeprefix("$set."))
        table.append((shown, types, share(one["filled"], one["rows"]), distinct_of(one)))
    widths = [
        min(max(columns(line[place]) for line in table), most) for place, most in enumerate((22, 12, 8, 10))
    ]
    name, kind, fill, distinct = widths
    room = WIDTH - sum(widths) - 10
    yield "", ""
    for number, line in enumerate(table):
        values = "most frequent values" if number == 0 else _top_values(found[number - 1], room)
        begin = f"  {in_columns(line[0], name)}  {in_columns(line[1], kind)}"
        begin += f"  {line[2]:>{fill}}  {line[3]:>{distinct}}"
        yield f"{begin}  {values}".rstrip(), "" if number else "soft"
    if len(found) > _MOST_ROWS:
        yield (
            f"  and {counted(len(found) - _MOST_ROWS, 'more property', 'more properties')}: see --json",
            "soft",
        )


def _change_lines(by_property: Mapping[str, Any]) -> Iterator[tuple[str, Style]]:
    for name, change in by_property.items():
        if change["changed"]:
            yield "", ""
            yield f"  {one_line(name)}: {change['changed']:,} changed", "head"
            for example in change["examples"]:
                yield f"    {one_line(example['user'])}: now {value_text(example['new'])}", ""


def _fault_lines(title: str, found: list[dict[str, Any]]) -> Iterator[tuple[str, Style]]:
    named = [one for one in found if one["column"] or one["values"]]
    if not named:
        return
    labels = [one_line(f"{one['column']}: {one['code']}") for one in named[:_MOST_ROWS]]
    wide, deep = max(map(columns, labels)), max(len(f"{one['count']:,}") for one in named)
    yield "", ""
    yield f"  {title}", "head"
    for label, one in zip(labels, named, strict=False):
        begin = f"    {label}{' ' * (wide - columns(label))}  {one['count']:>{deep},}"
        yield f"{begin}  {_top_values(one, WIDTH - columns(begin) - 2, quoted=True)}".rstrip(), ""
    if len(named) > _MOST_ROWS:
        yield f"    and {len(named) - _MOST_ROWS:,} more: see --json", "soft"


def _top_values(found: Mapping[str, Any], room: int, *, quoted: bool = False) -> str:
    """The most frequent values with their counts, as many as there is room for; unlike ones as an example."""
    pairs = [(one["value"], one["count"]) for one in found["values"]]
    write = one_line if quoted else value_text
    if not pairs:
        return ""
    if len(pairs) > 1 and pairs[0][1] == 1 and not quoted:
        return in_columns(f"e.g. {write(pairs[0][0])}", room).rstrip()
    phrases = [f"{write(value)} ({count:,})" if len(pairs) > 1 else write(value) for value, count in pairs]
    text = ""
    for number, phrase in enumerate(phrases):
        longer = f"{text}, {phrase}" if text else phrase
        more = number + 1 < len(phrases) or found["distinct"] > len(phrases)
        if columns(longer) + 5 * more > room:
            break
        text = longer
    else:
        return f"{text}, ..." if found["distinct"] > len(phrases) else text
    return f"{text}, ..." if text else in_columns(phrases[0], max(room, 12)).rstrip()
