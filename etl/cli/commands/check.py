"""`propsync check`: do everything but send, and show the plan, as text for people and as JSON for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import ExitCode
from .. import options
from ..console import show_json, show_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...job import Job
    from ...pipeline import Plan, Settings
    from ...reader import Source


@options.from_environment
@click.command(
    "check",
    short_help="Do everything that `run` does except sending.",
    epilog="\b\nExamples\n"
    "  propsync check job.yml\n"
    "  propsync check job.yml exports/new.csv --rate 3000 --json",
)
@options.JOB
@options.SOURCES
@options.rate_options
@options.row_options
@options.STATE_DIR
@options.REJECTS
@options.JSON_FLAG
def check_command(
    job: Path, sources: tuple[str, ...], rejects: Path | None, as_json: bool, **flags: Any
) -> int:
    """Do everything that `run` does except sending, and show the plan.

    The plan has the users that are new, changed and unchanged since the last run, changes by property with
    examples, rejects by reason, requests, bytes, and the time at the given rate. It needs no API key and
    changes no state. Exit code 3 if rows would be rejected, 4 if `run` would refuse the source because it has
    too few rows or was already sent.
    """
    loaded, flags = options.load_for_command(job, flags)
    source = options.open_job_source(loaded, sources)
    found = make_plan(loaded, source, options.settings_of(**flags), rejects)
    show_plan(found, as_json=as_json)
    return exit_code_of(found)


def make_plan(job: Job, source: Source, settings: Settings, rejects: Path | None) -> Plan:
    """Make the plan; write the rejects to a file, if one is given."""
    from ...listeners.reject_list import RejectList
    from ...pipeline import plan_job

    if rejects is None:
        return plan_job(job, source, settings=settings)
    listed = RejectList(rejects)
    found = plan_job(job, source, settings=settings, on_rejects=listed.add)
    listed.write()
    return found


def exit_code_of(plan: Plan) -> ExitCode:
    """Return the exit code of a plan. Raises the error with which `run` would refuse the source."""
    if plan.refused is not None:
        raise plan.refused
    return ExitCode.REJECTS if plan.tally.rejected else ExitCode.DONE


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print a plan on stdout."""
    if as_json:
        show_json(plan_dict(plan))
    else:
        show_lines(_plan_lines(plan))


def plan_dict(plan: Plan) -> dict[str, object]:
    """Return a plan as one JSON object."""
    changes = plan.changes
    counts = ("rows", "accepted", "unchanged", "merged", "rejected", "requests", "bytes")
    return {
        **{name: getattr(plan, name) for name in ("job", "endpoint", "transport", "files")},
        **{name: getattr(plan.tally, name) for name in counts},
        "seconds": round(plan.seconds, 3),
        "rejects_by_code": dict(plan.rejects_by_code),
        "skipped_values": plan.skipped_values,
        "users": plan.users,
        "changes": changes
        and {
            "new": changes.new,
            "changed": changes.changed,
            "unchanged": changes.unchanged,
            "by_property": {
                name: {
                    "changed": change.changed,
                    "new": change.new,
                    "examples": [{"user": e.user, "old": "unknown", "new": e.new} for e in change.examples],
                }
                for name, change in changes.by_property.items()
            },
        },
        "warnings": [{"code": warning.code, "message": warning.message} for warning in plan.warnings],
    }


def is_compressed(plan: Plan) -> bool:
    """Whether the bytes of a plan are compressed before they are sent."""
    from ...amplitude.limits import TRANSPORT_RULES

    return TRANSPORT_RULES[plan.transport].gzipped


def _plan_lines(plan: Plan) -> Iterator[str]:
    import orjson

    from ...listeners.summary import skipped_lines
    from ...text import counted, size, span

    tally = plan.tally
    yield f"{plan.job}: {counted(plan.files, 'file')} to {plan.endpoint}"
    yield ""
    yield f"  rows           {tally.rows:>13,}"
    for name in ("accepted", "unchanged", "merged", "rejected"):
        yield f"    {'to be sent' if name == 'accepted' else name:<13}{getattr(tally, name):>13,}"
    yield ""
    yield f"  requests       {tally.requests:>13,}"
    yield f"  bytes          {size(tally.bytes):>13}{'  before compression' * is_compressed(plan)}"
    yield f"  time           {span(plan.seconds):>13}  at the given rate"
    yield ""
    changes = plan.changes  # a first run has nothing to compare with
    if changes is None or changes.new == plan.users:
        yield f"  users          {plan.users:>13,}"
    else:
        yield f"  users new      {changes.new:>13,}"
        yield f"    changed      {changes.changed:>13,}"
        yield f"    unchanged    {changes.unchanged:>13,}"
    for name, change in changes.by_property.items() if changes else ():
        if change.changed:
            yield ""
            yield f"  {name}: {change.changed:,} changed"
            for example in change.examples:
                yield f"    {example.user}: unknown -> {orjson.dumps(example.new).decode()}"
    for code, count in plan.rejects_by_code.most_common():
        yield ""
        yield f"  {code}: {count:,}"
        yield from (f"    {r.source} row {r.row:,}: {r.reason}" for r in plan.examples[code])
    yield from skipped_lines(plan.skipped_values)
    yield from [""] * bool(plan.warnings)
    yield from (f"  warning: {warning.message}" for warning in plan.warnings)
