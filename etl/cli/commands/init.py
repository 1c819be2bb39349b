"""`propsync init`: write a job file for a source."""

from __future__ import annotations

from pathlib import Path

import click

from ...errors import UsageError
from ..console import current, show_file


@click.command(
    "init",
    short_help="Write a job file for a source.",
    epilog="\b\nExamples\n"
    "  propsync init users.csv -o job.yml\n"
    "  propsync init 'exports/*.parquet' > job.yml",
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write it.  [default: stdout]")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init_command(sources: tuple[str, ...], output: Path | None, force: bool) -> None:
    """Read the whole SOURCE and write a commented job file for it.

    The job file names the column that identifies the user and says why, gives each column the type that all
    its values have, and marks personal data. Read it before you run it.
    """
    from ...init import propose_job

    if output is not None and output.exists() and not force:
        raise UsageError(f"{output} exists already", hint="name another file, or add --force")
    proposal = propose_job(sources, output)
    if output is None:
        show_file(proposal.text)
    else:
        try:
            output.write_text(proposal.text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{output} can't be written: {error.strerror}") from error
    for note in proposal.notes:
        current().message("noted", note)
    if output is not None:
        current().message("wrote", f"wrote {output}; next: propsync check {output}")
