"""`propsync check`: do everything but send, and show the plan, as text for people and as JSON for scripts."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ExitCode, UsageError
from .. import options
from ..console import current, is_stdout, show_json, show_lines, show_styled, write_output
from ..options import OUTPUT, PATH, command, option, switch

if TYPE_CHECKING:
    from ...job.spec import Job
    from ...pipeline.plan import Plan
    from ...pipeline.settings import Settings
    from ...reader import Source
    from ..reporter import Channels


@command("check", variables=True)
@options.JOB_AND_SOURCES
@options.run_options("endpoint", "rate", "requests_per_second", "batch_size", "max_rejects")
@options.run_options("full", "min_rows", "again", "max_changes", "max_absent", "state_dir", "rejects")
@option("--report", "FILE.html", PATH, "Write an HTML page about the plan.")
@option(
    "--save", "FILE", OUTPUT, "Write the plan to a file that `run --plan` takes; it has no values of users."
)
@switch("--with-values", "With --save: write ids and values of users, too.")
@switch("--mask", "Show no ids and no values of users, here or on the page.")
@options.JSON_FLAG
def check_command(
    job: Path,
    sources: tuple[str, ...],
    report: Path | None,
    rejects: Path | None,
    save: Path | None,
    with_values: bool,
    mask: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Do everything that `run` does except sending, and show the plan.

    The plan has the users that are new, changed and unchanged since the last run; each property with its
    type, how many rows have it, and its most frequent values; changes by property with examples; rejects by
    reason and by value; requests, bytes, and the time at the given rate. It needs no API key and changes no
    state. Exit code 3 if rows would be rejected, 4 if a guard would stop `run`: too few rows, too many
    changes, rejects or users who left, or a source with counters that was already sent.

    Examples
      propsync check job.yml
      propsync check job.yml exports/new.csv --rate 3000 --json
      propsync check job.yml --report plan.html --mask
      propsync check job.yml --save plan.json    (to be reviewed, and then run)
    """
    from ...checkpoint import StateDir
    from ...checkpoint.run_records import Capabilities
    from ...state_files import check_writable

    paged = is_stdout(report)
    if paged and as_json:
        raise UsageError("--report - and --json both go to the standard output", hint="leave one of them out")
    outputs = {"report": None if paged else report, "save": save, "rejects": rejects}
    for path in filter(None, (outputs["report"], save)):
        check_writable(path)
    loaded, flags = options.load_for_command(job, flags)
    options.check_outputs(outputs, sources, loaded, job)
    source = options.open_job_source(loaded, sources)
    if save is not None and not source.repeatable:
        from ...pipeline.saved_plan import stream_error

        raise stream_error()
    found = make_plan(loaded, source, options.settings_of(**flags), rejects, proof=save is not None)
    if not paged:
        show_plan(found, as_json=as_json, mask=mask)
    if report is not None:
        write_page(found, report, mask=mask)
    if save is not None:
        found.save(save, with_values=with_values)
    known = Capabilities.load(StateDir(flags["state_dir"] or loaded.state_dir), found.endpoint)
    if known and not (as_json or paged):
        show_lines(["", f"  {known}"])
    return exit_code_of(found)


def make_plan(job: Job, source: Source, settings: Settings, rejects: Path | None, *, proof: bool) -> Plan:
    """Make the plan, with a bar on a terminal if it takes long, and write the rejects if a file is given.

    `proof`: it is to be saved, or held against a saved one.
    """
    from ...listeners.reject_list import RejectList
    from ...pipeline.plan import plan_job
    from ...pipeline.run import no_listener
    from ..reporter import terminal_bar

    listed = None if rejects is None else RejectList(rejects)
    keep = None if listed is None else listed.add
    with terminal_bar() or nullcontext(no_listener) as listener:
        found = plan_job(job, source, settings=settings, on_rejects=keep, listener=listener, proof=proof)
    if listed is not None:
        listed.write()
    return found


def run_dry(job: Job, source: Source, settings: Settings, channels: Channels) -> ExitCode:
    """Do a dry run of `run`; return its exit code. Raises the error that would stop it."""
    from ...pipeline.saved_plan import SavedPlan

    if settings.limit is not None:
        hint = "leave one of them out, or look at the first rows with `propsync preview`"
        raise UsageError("a dry run reads all of the source, so --limit has no meaning", hint=hint)
    saved = None if settings.plan is None else SavedPlan.load(Path(settings.plan))
    plan = make_plan(job, source, settings, channels.rejects, proof=saved is not None)
    if saved is not None:
        saved.check(plan)
    show_plan(plan, as_json=channels.as_json)
    if channels.report is not None:  # it may be mailed every night
        write_page(plan, channels.report, mask=True)
    if channels.metrics_file is not None:
        message = f"{channels.metrics_file} stays as it is: a dry run is not a run of the job"
        current().message("warned", f"warning: {message}", code="dry_run", message=message)
    code = exit_code_of(plan)
    return ExitCode.DONE if settings.accept_rejects and code == ExitCode.REJECTS else code


def exit_code_of(plan: Plan) -> ExitCode:
    """Return the exit code of a plan. Raises the error with which `run` would refuse the source."""
    if plan.refused is not None:
        raise plan.refused
    return ExitCode.REJECTS if plan.tally.rejected else ExitCode.DONE


def show_plan(plan: Plan, *, as_json: bool, mask: bool = False) -> None:
    """Print a plan on stdout."""
    from ...listeners.plan_text import plan_lines

    data = plan.as_dict(mask=mask)
    if as_json:
        show_json(data)
    else:
        show_styled(plan_lines(data))


def write_page(plan: Plan, report: Path, *, mask: bool) -> None:
    """Write the page of a plan. Raises StateError."""
    from ...listeners.report import plan_page  # needs jinja2

    write_output(report, plan_page(plan.as_dict(mask=mask)), private=not mask)
