"""A plan as one HTML page that needs nothing but itself: for the one who decides whether it is sent."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ..text import address, counted
from .plan_summary import effort_of, has_known_users
from .report import PAGES

if TYPE_CHECKING:
    from collections.abc import Mapping


def plan_page(plan: Mapping[str, Any]) -> str:
    """Write a plan, given as its JSON object, as a page."""
    return PAGES.get_template("plan.html").render(
        plan=plan,
        destination=f"{counted(plan['files'], 'file')} to {address(plan['endpoint'])}",
        effort={f"{name} {remark}".strip(): figure for name, figure, remark in effort_of(plan)},
        known=has_known_users(plan),
        warnings=Counter(warning["message"] for warning in plan["warnings"]).items(),
    )
