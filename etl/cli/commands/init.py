"""`propsync init`: write a job file for a source."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...errors import UsageError
from ...text import shell_word
from ..console import current, is_stdout, write_output
from ..options import PATH, check_outputs, command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@command("init")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("-o", "--output", type=PATH, help="Where to write it.  [default: -, which is stdout]")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init_command(sources: tuple[str, ...], output: Path | None, force: bool) -> None:
    """Read the whole SOURCE and write a commented job file for it.

    The job file says how the source is written and which column identifies the user. Each column gets
    the type that most of its values have, the words for null that it holds are listed, and personal data is
    hashed or left out. What doesn't fit is reported. Read the file before you run it.

    Examples
      propsync init users.csv -o job.yml
      propsync init 'exports/*.parquet' > job.yml
    """
    from ...init import propose_job
    from ...state_files import check_writable

    output = None if is_stdout(output) else output
    if output is not None and output.exists() and not force:
        raise UsageError(f"{output} exists already", hint="name another file, or add --force")
    check_outputs({"output": output}, sources)
    if output is not None:
        check_writable(output)
    with reading_progress() as progress:
        proposal = propose_job(sources, output, progress)
    write_output(output, proposal.text)
    for note in proposal.notes:
        current().message("noted", note)
    if output is not None:
        current().message("wrote", f"wrote {output}; next: propsync check {shell_word(output)}")


@contextmanager
def reading_progress() -> Iterator[Callable[[int, int | None], None] | None]:
    """Show on a terminal how many rows were read, by calls of what is yielded; None elsewhere."""
    from ...listeners.display import has_cursor

    if not has_cursor(sys.stderr):
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("reading ...") as status:
        yield lambda rows, total: status.update(
            f"reading: {rows:,} rows" + (f" of {total:,}" if total else "")
        )
