"""`propsync plan show`: a saved plan, as text, as Markdown for a pull request, or as it is."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import show, show_json, show_styled
from ..options import JSON_FLAG, PATH, command, switch


@command("plan")
@click.argument("action", type=click.Choice(["show"]))
@click.argument("plan", type=PATH)
@switch("--markdown", "Print Markdown, as for a comment on a pull request.")
@JSON_FLAG
def plan_command(action: str, plan: Path, markdown: bool, as_json: bool) -> None:
    """Show a plan that `check --save` wrote: what it was made of, what would be sent, and the guards.

    It reads nothing but the file. Whether the plan still holds is found out by `run --plan`, before it sends
    anything. Exit code 2 if the file is damaged or was edited.

    Examples
      propsync plan show plan.json
      propsync plan show plan.json --markdown > comment.md
    """
    from ...listeners.plan_text import review_lines, review_markdown
    from ...pipeline.saved_plan import SavedPlan

    data = SavedPlan.load(plan).data
    if as_json:
        show_json(data)
    elif markdown:
        show(review_markdown(data))
    else:
        show_styled(review_lines(data))
