"""`propsync report`: the page of a past run."""

from __future__ import annotations

from pathlib import Path

import click

from ...errors import UsageError
from ..console import is_stdout, show, write_output
from ..options import JOB, PATH, STATE_DIR, check_outputs, command, load_for_command, option, switch


@command("report")
@JOB
@click.argument("run", required=False)
@option("--output", "FILE.html", PATH, "Where to write it.  [default: NAME-report.html]")
@switch("--mask", "Leave out examples of rejects, so that others may read the page.")
@STATE_DIR
def report_command(
    job: Path, run: str | None, output: Path | None, mask: bool, state_dir: Path | None
) -> None:
    """Write the page of a past run: the last one, or one that `propsync runs` lists.

    It shows what was asked, the ends of all rows, speed and pauses over time, where the time went, changes by
    property, rejects with examples, and the ten runs before it.

    Examples
      propsync report job.yml                            the last run
      propsync report job.yml 20260131T020000-4711 --output night.html
    """
    from ...listeners.report import report_page
    from ...listeners.run_record import COMPARED, readable_runs
    from ...state_files import check_writable

    loaded, flags = load_for_command(job, {"state_dir": state_dir})
    folder = flags["state_dir"] or loaded.state_dir
    found = list(readable_runs(folder))
    names = [data["run"] for data, _ in found]
    if not found:
        hint = "run it first, or name its state folder with --state-dir"
        raise UsageError(f"{loaded.name} has no past runs in {folder}", hint=hint)
    if run is not None and run not in names:
        raise UsageError(f"there is no run {run}", hint="propsync runs lists them; the last is " + names[0])
    place = 0 if run is None else names.index(run)
    target = output or Path(f"{loaded.name}-report.html")
    if not is_stdout(target):
        check_outputs({"output": target}, (), loaded, job)
        check_writable(target)
    records = [record for _, record in found[place : place + 1 + COMPARED]]
    page = report_page(records[0].masked() if mask else records[0], past=records[1:])
    write_output(target, page, private=not mask)
    if not is_stdout(target):
        show(f"wrote {target}: the run that ended at {records[0].ended:%Y-%m-%d %H:%M} UTC")
