"""The command line: flags to settings, events to the terminal. A thin skin over the library.

Heavy imports stay inside the commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

from importlib.metadata import version

import click

from etl.cli.local import sandbox, schema
from etl.cli.look import check, init, preview, status
from etl.cli.send import run


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `propsync init users.csv -o job.yml`; each command's --help has examples.",
)
@click.version_option(version("propsync"), prog_name="propsync")
def propsync() -> None:
    r"""Carry user properties from CSV and Parquet exports into Amplitude.

    A job file says which columns become which properties. Every row is accounted for: it is accepted,
    unchanged, merged into another row of its user, or handed back with the reason.

    \b
    Exit codes
      0    every row accepted, unchanged or merged
      1    a fault of propsync (with a trace)
      2    the command line or the job file is wrong; nothing was sent
      3    finished, and some rows were rejected
      4    stopped: more rejects than --max-rejects
      5    stopped by the destination: key refused, or away too long
      6    another run of this job is active
      7    the source can't be read, or isn't the one the checkpoint is of
      8    the state folder can't be written
      130  interrupted; the checkpoint is kept

    \b
    Shell completion
      bash: eval "$(_PROPSYNC_COMPLETE=bash_source propsync)"
      zsh:  eval "$(_PROPSYNC_COMPLETE=zsh_source propsync)"
      fish: _PROPSYNC_COMPLETE=fish_source propsync | source
    """


for command in (init, check, preview, run, status, schema, sandbox):
    propsync.add_command(command)
