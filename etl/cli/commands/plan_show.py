"""`propsync plan show`: a saved plan, as text, as Markdown for a pull request, or as it is."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import show, show_json, show_styled
from ..options import JSON_FLAG, PATH, switch


@click.group("plan", short_help="Show a plan that `check --save` wrote.")
def plan_command() -> None:
    """Show a plan that `check --save` wrote, and `run --plan` sends."""


@plan_command.command(
    "show",
    epilog="\b\nExamples\n"
    "  propsync plan show plan.json\n"
    "  propsync plan show plan.json --markdown > comment.md",
)
@click.argument("plan", type=PATH)
@switch("--markdown", "Print Markdown, as for a comment on a pull request.")
@JSON_FLAG
def show_command(plan: Path, markdown: bool, as_json: bool) -> None:
    """Show a plan: of what it was made, what becomes of the rows, the properties, and the guards.

    It reads nothing but the file. Whether the plan still holds is found out by `run --plan`, before it sends
    anything. Exit code 2 if the file is damaged or was edited.
    """
    from ...listeners.plan_review import review_lines, review_markdown
    from ...pipeline.saved_plan import SavedPlan

    data = SavedPlan.load(plan).data
    if as_json:
        show_json(data)
    elif markdown:
        show(review_markdown(data))
    else:
        show_styled(review_lines(data))
