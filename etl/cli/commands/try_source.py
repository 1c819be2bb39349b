"""`propsync try`: write a job file for a source, send it to a sandbox of its own, and show what arrived."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import InterruptedRunError, UsageError
from ...text import shell_word
from .. import options
from ..console import current, open_browser, show, show_lines, table_text
from ..options import command, option, switch
from .init import reading_progress

if TYPE_CHECKING:
    from ...pipeline.plan import Plan
    from ...run_events import Event, Summary
    from ...sandbox import Sandbox

_KEY = "key-of-a-trial"
_MOST_SHOWN = 3
_LONGEST = 36  # columns of a value in the table


@command("try")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("-o", "--output", type=options.PATH, help="Keep the job file here.")
@option("--limit", "N", click.IntRange(min=1), "Send only the first N rows.", default=100_000)
@switch("--no-open", "Don't open the page in a browser.")
def try_command(sources: tuple[str, ...], output: Path | None, limit: int, no_open: bool) -> int:
    """Do all that `init` and `run` do with a SOURCE, but to a sandbox on this machine, and show what arrives.

    It needs no account, no key and no job file, and leaves nothing behind. On a terminal the sandbox goes on
    until Ctrl-C, and its page shows each user before and after; elsewhere only a table of the first users is
    printed. The exit code is that of the run.

    Examples
      propsync try users.csv
      propsync try 'exports/*.parquet' -o job.yml --limit 1000
    """
    import tempfile

    from ...init import propose_job
    from ...job.spec import Job
    from ...pipeline.plan import plan_job
    from ...pipeline.run import run_job
    from ...pipeline.settings import Settings
    from ...sandbox import running_sandbox
    from ...state_files import write_whole

    if output is not None and output.exists():
        raise UsageError(f"{output} exists already", hint="name another file, or `propsync run` that one")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="propsync-try-")))
        with reading_progress() as progress:
            proposal = propose_job(sources, output, progress)
        for note in proposal.notes:
            current().message("noted", note)
        job_file = output or folder / "job.yml"
        write_whole(job_file, proposal.text)
        job = Job.load(job_file)
        source = options.open_job_source(job, sources)
        sandbox = stack.enter_context(running_sandbox())
        # In one process: this one has a thread with the sandbox, which a fork would not.
        target = Settings(endpoint=sandbox.url, state_dir=folder / "state", processes=1, handle_signals=True)
        settings = replace(target, rate=None, requests_per_second=None, limit=limit)
        plan = plan_job(job, source, settings=settings)
        try:
            again = options.open_job_source(job, sources)
            summary = run_job(job, again, _KEY, settings=settings, listener=_show_warning)
        except InterruptedRunError as error:  # it can't be resumed: its state goes with it
            raise KeyboardInterrupt from error
        show_trial(sources, output, sandbox, plan, summary)
        if sys.stdout.isatty():
            show_lines(["", f"the sandbox shows each user at {sandbox.url} until Ctrl-C"])
            with suppress(KeyboardInterrupt):
                if not no_open:
                    open_browser(sandbox.url)
                while True:
                    time.sleep(3600)
        return summary.exit_code


def show_trial(
    sources: tuple[str, ...], job_file: Path | None, sandbox: Sandbox, plan: Plan, summary: Summary
) -> None:
    """Show what arrived, here and on the sandbox's page; `job_file` None: it is not kept."""
    from ...listeners.summary import row_phrases
    from ...sandbox.web_page import Trial

    counted, *ends = row_phrases(summary.tally)
    limited = " (more are in the source; see --limit)" if summary.status == "limited" else ""
    codes = summary.rejects_by_code.items()
    rejects = (f"rejected: {count:,} {code}; `propsync check` shows them" for code, count in codes)
    lines = (f"{counted}{limited}: {', '.join(ends)}", *rejects)
    name, words = shell_word(job_file or "job.yml"), " ".join(map(shell_word, sources))
    steps = [] if job_file else [f"propsync init {words} -o {name}"]
    steps.append(f"AMPLITUDE_API_KEY=... propsync run {name}")
    rows = {user: sample.before for user, sample in plan.figures.samples.items()}
    sandbox.trial = Trial(f"What became of {', '.join(sources)}", lines, "\n".join(steps), rows)
    show_lines(lines)
    if table := _table(plan, sandbox):
        show(f"\n{table}")
    show_lines(["", "for the real thing:", *(f"  {step}" for step in steps)])


def _show_warning(event: Event) -> None:
    from ...run_events import Warned

    if isinstance(event, Warned):
        current().message("warned", f"warning: {event.message}", code=event.code)


def _table(plan: Plan, sandbox: Sandbox) -> str:
    """The first users that arrived: each property, what the file has for it, and what the sandbox has now."""
    import shutil

    import orjson

    from ...text import one_line, shortened

    def cell(value: Any) -> str:
        text = "-" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
        return shortened(one_line(text), _LONGEST)

    rows, find = [], sandbox.profiles.find
    found = ((one, find(one.user, None) or find(None, one.user)) for one in plan.figures.samples.values())
    # Not those of rows beyond the limit.
    arrived = [(sample, profile) for sample, profile in found if profile is not None]
    for sample, profile in arrived[:_MOST_SHOWN]:
        places: dict[str, dict[str, Any]]
        places = {"user_properties": profile.properties, "groups": dict(profile.groups)}
        for number, (path, figures) in enumerate(plan.figures.properties.items()):
            after = places.get(path[0], dict(profile.fields)).get(path[-1])
            before = sample.before.get(figures.column or "")
            name = sample.user if number == 0 else ""
            rows.append(map(cell, (name, path[-1], figures.column, before, after)))
    header = ("user", "property", "before: column", "value", "after")
    width = min(shutil.get_terminal_size().columns, 120)
    return table_text(header, rows, width).rstrip("\n") if arrived else ""
