"""The command `propsync`: its help, and where its commands are."""

from __future__ import annotations

import click

from ..interrupts import release
from .commands.baseline import baseline_command
from .commands.check import check_command
from .commands.explain import explain_command
from .commands.init import init_command
from .commands.plan_show import plan_command
from .commands.preview import preview_command
from .commands.probe import probe_command
from .commands.report import report_command
from .commands.run import run_command
from .commands.runs import runs_command
from .commands.sandbox import sandbox_command
from .commands.schema import schema_command
from .commands.status import status_command
from .commands.try_source import try_command
from .commands.verify import verify_command

# With \b a paragraph keeps its lines; a docstring would need to be raw and then has none.
_HELP = """Carry user properties from CSV and Parquet exports into Amplitude.

A job file says which columns become which properties. Every row is accounted for: it is accepted,
unchanged, merged into another row of its user, or handed back with the reason.

\b
Exit codes
  0    every row accepted, unchanged or merged
  1    a bug in propsync (with a traceback)
  2    the command line or the job file is wrong; nothing was sent
  3    finished, and some rows were rejected (verify: something differs)
  4    stopped by a guard: too many rejects, changes or removed users, too
       few rows, a source that was already sent, or another plan
  5    stopped by the destination: the API key or every row was refused, or
       it was unavailable for too long
  6    another run of this job is active
  7    the source can't be read, or isn't the source of the checkpoint
  8    the state folder can't be written, or other users can write to it
  130  interrupted; the checkpoint is kept

\b
Shell completion
  bash: eval "$(_PROPSYNC_COMPLETE=bash_source propsync)"
  zsh:  eval "$(_PROPSYNC_COMPLETE=zsh_source propsync)"
  fish: _PROPSYNC_COMPLETE=fish_source propsync | source
"""


class _Group(click.Group):
    """Lists commands in the order in which they were added, which is that of their use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Group,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples\n"
    "  propsync init users.csv -o job.yml    write a job file\n"
    "  propsync check job.yml                see what it would do\n"
    "  propsync run job.yml                  do it, with AMPLITUDE_API_KEY set",
)
@click.version_option(package_name="propsync", prog_name="propsync")
@click.pass_context
def propsync(context: click.Context) -> None:
    """Release the signals that came so far; `run` does so itself, once it has imported everything."""
    if context.invoked_subcommand != "run":
        release()


for command in (
    try_command,
    init_command,
    check_command,
    plan_command,
    preview_command,
    run_command,
    status_command,
    runs_command,
    report_command,
    explain_command,
    verify_command,
    probe_command,
    baseline_command,
    schema_command,
    sandbox_command,
):
    propsync.add_command(command)
