"""The command `propsync`: its help, and where its commands are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

import click

from ..process import release_signals

# In the order of their use; each is imported when it is asked for.
_COMMANDS: Final = {
    "try": "Send a source to a sandbox, and look at what arrives.",
    "init": "Write a job file for a source.",
    "check": "Do everything that `run` does except sending.",
    "plan": "Show a plan that `check --save` wrote.",
    "preview": "Show identifications: the first ones, a user's, or a sample.",
    "run": "Send the source as the JOB file says.",
    "status": "Show what is committed, what is left, and what was rejected.",
    "runs": "List past runs, also those that could not begin.",
    "report": "Write the page of a past run.",
    "explain": "Show the rows of one user, and what is sent of them.",
    "verify": "Read users back from Amplitude and compare them.",
    "probe": "Try the API key; with --limits, find out what Amplitude takes.",
    "baseline": "Record a source as sent, without sending it.",
    "schema": "Print the JSON Schema of the job file.",
    "sandbox": "Serve a stand-in for Amplitude on this machine.",
}
_MODULES: Final = {"try": "try_source", "plan": "plan_show"}


class _Commands(Mapping[str, click.Command]):
    def __getitem__(self, name: str) -> click.Command:
        text = _COMMANDS[name]
        module = import_module(f".commands.{_MODULES.get(name, name)}", __package__)
        found: click.Command = getattr(module, f"{name}_command")
        found.short_help = text
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Group,
    commands=_Commands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples\n"
    "  propsync init users.csv -o job.yml    write a job file\n"
    "  propsync check job.yml                see what it would do\n"
    "  propsync run job.yml                  do it, with AMPLITUDE_API_KEY set",
)
@click.version_option(package_name="propsync", prog_name="propsync")
@click.pass_context
def propsync(context: click.Context) -> None:
    """Carry user properties from CSV and Parquet exports into Amplitude.

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
    """  # noqa: D301 - behind \b a paragraph keeps its lines
    # Signals wait until here; `run` releases them itself, once it has imported everything.
    if context.invoked_subcommand != "run":
        release_signals()
