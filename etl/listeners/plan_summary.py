"""A plan: the same facts as JSON for programs and as lines of text for people."""

from __future__ import annotations

import json
import textwrap
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ..amplitude.limits import TRANSPORT_RULES
from ..text import columns, counted, one_line, share, size, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..pipeline.figures import ColumnFaults, ValueCounts
    from ..pipeline.plan import Plan

Style: TypeAlias = Literal["", "head", "bad", "warning", "soft"]
MASK: Final = "\u2022\u2022\u2022"
WIDTH: Final = 80
_TOP, _MOST_ROWS, _LONGEST = 5, 40, 200
_LONG: Final = 60.0  # seconds from which on it matters when a run ends, and how long other rates take
REMEDIES: Final = {
    "ragged": "quote fields that contain the delimiter",
    "stray_quote": "set `csv: escape`, or double the quotes in the export",
    "unclosed_quote": "close the quote, or set another `csv: quote`",
    "repeated_header": "none needed: the header stands in the file more than once",
    "bad_encoding": "set the right `csv: encoding`",
    "bad_line": "fix the line",
    "missing_id": "add the id, or ignore the row: there is no user to update",
    "short_id": "give all ids a `prefix`",
    "long_id": "check that the job uses the right column",
    "mangled_id": "export ids as text, or set `ids: {mangled: keep}`",
    "refused_id": "fill in the real id, or ignore the row",
    "bad_value": "add the text to `values`, or set `invalid: skip`",
    "bad_list": "export a JSON array, or use a `separator`",
    "bad_path": "remove the `path`, or set `invalid: skip`",
    "bad_number": "set `decimal`, `thousands` and `strip`, or `invalid: skip`",
    "bad_integer": "use type `number` or `string`, or `invalid: skip`",
    "bad_boolean": "list the words in `values`, or set `invalid: skip`",
    "bad_date": "add the format to `date_format`, or set `invalid: skip`",
    "bad_datetime": "add the format to `date_format`, or set `invalid: skip`",
    "bad_json": "fix the value, or set `invalid: skip`",
    "bad_text": "use `transform: [hex]` or `[uuid]`, or leave the column out",
    "bad_bytes": "remove the step, or use `hex` instead of `uuid`",
    "not_finite": "fix the value, or set `invalid: skip`",
    "too_long": "set `too_long: truncate`",
    "nested_list": "flatten the list in the export",
    "too_deep": "flatten the value in the export",
    "too_many_groups": "send fewer groups",
    "too_big": "map fewer or shorter columns",
    "superseded": "ignore the row, or run with --full",
    "dropped": "none needed: the job's own transform leaves the row out",
}


# --- as data ---------------------------------------------------------------------------------------------


def plan_dict(plan: Plan, *, mask: bool = False, now: datetime | None = None) -> dict[str, Any]:
    """Return a plan as one JSON object; with `mask`, without ids and values of any user.

    `now` is when a run would begin.
    """

    def shown(text: str) -> Any:
        """The value of a JSON text; a long one as the beginning of its text."""
        if mask:
            return MASK
        return json.loads(text) if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\u2026"

    def values(found: ValueCounts, *, quoted: bool = False) -> dict[str, Any]:
        top = [(text if quoted and not mask else shown(text), n) for text, n in found.top(_TOP)]
        listed = [{"value": value, "count": n} for value, n in top]
        return {"distinct": found.distinct, "distinct_is_exact": not found.full, "values": listed}

    def faults(found: Mapping[tuple[str, str], ColumnFaults]) -> list[dict[str, Any]]:
        return [
            {"column": column, "code": code, "count": one.count}
            | values(one.values, quoted=True)
            | {"remedy": REMEDIES.get(code, "")}
            for (column, code), one in sorted(found.items(), key=lambda item: -item[1].count)
        ]

    changes, figures = plan.changes, plan.figures
    counts = ("rows", "accepted", "unchanged", "merged", "rejected", "requests", "bytes")
    ends = (now or datetime.now().astimezone()) + timedelta(seconds=min(plan.seconds, 1e9))
    return {
        **{name: getattr(plan, name) for name in ("job", "endpoint", "transport", "files")},
        **{name: getattr(plan.tally, name) for name in counts},
        "seconds": round(plan.seconds, 3),
        "ends_at": ends.isoformat(timespec="seconds"),
        "seconds_by_rate": {str(rate): round(s, 3) for rate, s in plan.seconds_by_rate.items()},
        "rejects_by_code": dict(plan.rejects_by_code.most_common()),
        "reject_examples": {
            code: [
                {"source": r.source, "row": r.row, "reason": MASK if mask else r.reason}
                for r in plan.examples[code]
            ]
            for code, _ in plan.rejects_by_code.most_common()
        },
        "rejected_values": faults(figures.rejected),
        "skipped_values": plan.skipped_values,
        "skipped": faults(figures.skipped),
        "users": plan.users,
        "properties": [
            {
                "property": one.name,
                "column": one.column,
                "options": one.options,
                "types": list(one.types),
                "filled": one.filled,
                "rows": figures.rows,
                "example": None if one.example is None else shown(one.example),
                **values(one.values),
                "counted": one.values.counted,
            }
            for one in figures.properties.values()
        ],
        "samples": [
            {
                "user": MASK if mask else one.user,
                "before": dict.fromkeys(one.before, MASK) if mask else one.before,
                "after": _masked(one.after) if mask else one.after,
            }
            for one in figures.samples.values()
        ],
        "changes": changes
        and {
            "new": changes.new,
            "changed": changes.changed,
            "unchanged": changes.unchanged,
            "by_property": {
                name: {
                    "changed": change.changed,
                    "new": change.new,
                    "examples": [
                        {"user": e.user, "old": "unknown", "new": e.new}
                        if not mask
                        else {"user": MASK, "old": "unknown", "new": MASK}
                        for e in change.examples
                    ],
                }
                for name, change in changes.by_property.items()
            },
        },
        "warnings": [{"code": warning.code, "message": warning.message} for warning in plan.warnings],
    }


def _masked(value: Any) -> Any:
    """The same keys with masked values."""
    return {key: _masked(inner) for key, inner in value.items()} if isinstance(value, dict) else MASK


def has_known_users(plan: Mapping[str, Any]) -> bool:
    """Whether the users of a plan are compared with those of an earlier run."""
    changes = plan["changes"]
    return changes is not None and changes["new"] != plan["users"]


def effort_of(plan: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What a run of the plan takes: name, figure, and a remark."""
    packed = "before compression" if TRANSPORT_RULES[plan["transport"]].gzipped else ""
    at = "at the given rate"
    if plan["seconds"] >= _LONG:
        at += f"; begun now, it ends {datetime.fromisoformat(plan['ends_at']):%Y-%m-%d %H:%M}"
    return [
        ("requests", f"{plan['requests']:,}", ""),
        ("bytes", size(plan["bytes"]), packed),
        ("time", span(plan["seconds"]), at),
    ]


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


# --- in words --------------------------------------------------------------------------------------------


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
    for name, change in changes["by_property"].items() if changes else ():
        if change["changed"]:
            yield "", ""
            yield f"  {one_line(name)}: {change['changed']:,} changed", "head"
            for example in change["examples"]:
                yield f"    {one_line(example['user'])}: now {value_text(example['new'])}", ""
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
        min(max(columns(line[place]) for line in table), most) for place, most in enumerate((24, 14, 8, 10))
    ]
    name, kind, fill, distinct = widths
    room = WIDTH - sum(widths) - 10
    yield "", ""
    for number, line in enumerate(table):
        values = "most frequent values" if number == 0 else _top_values(found[number - 1], room)
        begin = f"  {_cut(line[0], name)}  {_cut(line[1], kind)}  {line[2]:>{fill}}  {line[3]:>{distinct}}"
        yield f"{begin}  {values}".rstrip(), "" if number else "soft"
    if len(found) > _MOST_ROWS:
        yield (
            f"  and {counted(len(found) - _MOST_ROWS, 'more property', 'more properties')}: see --json",
            "soft",
        )


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
        return _cut(f"e.g. {write(pairs[0][0])}", room).rstrip()
    phrases = [f"{write(value)} ({count:,})" if len(pairs) > 1 else write(value) for value, count in pairs]
    text = ""
    for number, phrase in enumerate(phrases):
        longer = f"{text}, {phrase}" if text else phrase
        more = number + 1 < len(phrases) or found["distinct"] > len(phrases)
        if text and columns(longer) + 5 * more > room:
            return f"{text}, ..."
        text = longer
    return _cut(f"{text}, ..." if found["distinct"] > len(phrases) else text, max(room, 12)).rstrip()


def _cut(text: str, width: int) -> str:
    """The text in exactly so many columns."""
    if columns(text) > width:
        while columns(text) > width - 3:
            text = text[:-1]
        text += "..."
    return text + " " * (width - columns(text))
