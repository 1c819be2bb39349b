"""`propsync runs`: the past runs of a job, one line each."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..console import current, show_result
from ..options import JOB, JSON_FLAG, STATE_DIR, command, know_job, option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...run_events import Summary

_LONG = 60.0  # seconds from which on it matters where the time went


@command("runs")
@JOB
@option("-n", "N", click.IntRange(min=1), "How many, the latest first.", default=20)
@STATE_DIR
@JSON_FLAG
def runs_command(job: Path, n: int, state_dir: Path | None, as_json: bool) -> None:
    """List past runs, also those that could not begin. The last 100 of at most a year are kept.

    Examples
      propsync runs job.yml
      propsync runs job.yml -n 1 --json | jq '.[0].summary'
    """
    from itertools import islice

    from ...checkpoint.run_records import past_runs

    known = know_job(job, state_dir)
    found = list(islice(_readable(past_runs(known.state_dir)), n))
    if as_json or found:
        show_result([data for data, *_ in found], _lines(found), as_json=as_json)
    else:
        more = "a run under way, or one that was killed, is in `propsync status`"
        current().message("nothing", f"{known.name} has no past runs in {known.state_dir}; {more}")


def _readable(records: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Summary, list[float]]]:
    """Each record with its summary and the seconds of its pauses; one that is damaged is left out."""
    from ...listeners.summary import summary_from

    for data in records:
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            yield data, summary_from(data["summary"]), [float(seconds) for _, seconds in data["pauses"]]


def _lines(found: list[tuple[dict[str, Any], Summary, list[float]]]) -> Iterator[str]:
    import textwrap

    from ...listeners.summary import time_spent
    from ...text import counted, one_line, span

    yield f"{'run':24} {'exit':>4} {'rows':>12} {'accepted':>12} {'rejected':>9}  time"
    for data, summary, pauses in found:
        tally = summary.tally
        numbers = f"{tally.rows:>12,} {tally.accepted:>12,} {tally.rejected:>9,}"
        yield f"{data['run']:24} {summary.exit_code:>4} {numbers}  {span(summary.seconds)}"
        notes = []
        if summary.reason and summary.exit_code != 3:
            notes.append(one_line(summary.reason.splitlines()[0]))
        if (paused := sum(pauses)) >= 1:
            notes.append(f"{counted(len(pauses), 'pause')} of the destination, {span(paused)}")
        if summary.seconds >= _LONG and (spent := time_spent(summary.timing)):
            notes.append(spent)
        for note in notes:
            yield from textwrap.wrap(note, 79, initial_indent="    ", subsequent_indent="    ")
