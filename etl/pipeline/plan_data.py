"""A plan as one JSON object: for programs, and for what shows it to people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..remedies import REMEDIES
from ..text import MASK

if TYPE_CHECKING:
    from ..arrow.distinct import ValueCounts
    from ..model import Reject
    from .figures import ColumnFaults
    from .plan import Plan

_TOP, _LONGEST = 5, 200


def plan_dict(plan: Plan, *, mask: bool = False, now: datetime | None = None) -> dict[str, Any]:
    """Return a plan as one JSON object; with `mask`, without ids and values of any user.

    `now` is when a run would begin.
    """

    def shown(text: str) -> Any:
        """The value of a JSON text; a long one as the beginning of its text."""
        if mask:
            return MASK
        return json.loads(text) if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\u2026"

    def hidden(reject: Reject) -> bool:
        """Whether the reason may quote a value of which only a hash is sent."""
        return any(fault.column in plan.figures.hashed for fault in reject.faults)

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
                {"source": r.source, "row": r.row, "reason": MASK if mask or hidden(r) else r.reason}
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
                "sent": one.sent,
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
        "guards": [
            {"guard": g.name, "limit": g.limit, "found": g.found, "stops": g.error and g.error.message}
            for g in plan.guards
        ],
        "warnings": [{"code": warning.code, "message": warning.message} for warning in plan.warnings],
    }


def _masked(value: Any) -> Any:
    """The same keys with masked values."""
    return {key: _masked(inner) for key, inner in value.items()} if isinstance(value, dict) else MASK
