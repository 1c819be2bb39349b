"""A plan as one HTML page that needs nothing but itself: for the one who decides whether it is sent."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ..text import address, counted, share
from .plan_text import distinct_of, effort_of, has_known_users, options_text, other_rates
from .report import PAGES, bar_parts, brief
from .summary import ROW_ENDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_SHOWN: Final = 200  # of properties and of kinds of faults; the JSON has all
_SIGNS: Final = {
    "text": "Aa",
    "number": "1.5",
    "whole number": "123",
    "true/false": "\u2713\u2715",
    "date": "31.",
    "date and time": "31. 12:00",
    "list": "[ ]",
    "object": "{ }",
    "JSON": "{ }",
}


def flat(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The values of an identification by name; properties without `user_properties.$set`."""
    for name, value in values.items():
        place = (*path, name)
        if isinstance(value, dict) and place[0] in {"groups", "user_properties"} and len(path) < 2:
            yield from flat(value, place)
        else:
            yield ".".join(part for part in place if part not in {"user_properties", "$set"}), value


def plan_page(plan: Mapping[str, Any]) -> str:
    """Write a plan, given as its JSON object, as a page."""
    counts = {end: plan[end] for end in ROW_ENDS}
    properties = [
        {
            "name": one["property"].removeprefix("$set."),
            "column": one["column"],
            "options": options_text(one["options"]),
            "types": [(word, _SIGNS.get(word, "?")) for word in one["types"]],
            "fill": share(one["filled"], one["rows"]),
            "width": round(100 * one["filled"] / max(one["rows"], 1), 2),
            "distinct": distinct_of(one),
            "counted": None if one["distinct_is_exact"] else one["counted"],
            "values": [
                (
                    brief(value["value"]),
                    value["count"],
                    round(100 * value["count"] / max(one["counted"], 1), 2),
                )
                for value in one["values"]
            ],
        }
        for one in plan["properties"][:MOST_SHOWN]
    ]
    return PAGES.get_template("plan.html").render(
        plan=plan,
        destination=f"{counted(plan['files'], 'file')} to {address(plan['endpoint'])}",
        bar=bar_parts(counts, accepted="to be sent"),
        bar_label=", ".join(f"{kind} {n:,}" for kind, n in counts.items() if n) or "no rows",
        ends=[
            (end, "to be sent" if end == "accepted" else end, n, share(n, plan["rows"]) if n else "")
            for end, n in counts.items()
        ],
        effort={f"{name} {remark}".strip(): figure for name, figure, remark in effort_of(plan)},
        rates=other_rates(plan),
        known=has_known_users(plan),
        properties=properties,
        more=max(len(plan["properties"]) - MOST_SHOWN, 0),
        samples=[
            (
                one["user"],
                [(name, brief(value)) for name, value in one["before"].items()][:MOST_SHOWN],
                [(name, brief(value)) for name, value in flat(one["after"])][:MOST_SHOWN],
            )
            for one in plan["samples"]
        ],
        faults=[
            ("Faults of rejected rows", plan["rejected_values"][:MOST_SHOWN]),
            ("Values left out of rows that went without them", plan["skipped"][:MOST_SHOWN]),
        ],
        warnings=Counter(warning["message"] for warning in plan["warnings"]).items(),
    )
