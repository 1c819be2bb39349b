"""`check` and `preview`: everything that `run` does, but sending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from etl.amplitude import TRANSPORTS, TransportName
from etl.checkpoint import StateFolder
from etl.encoder import Limits
from etl.errors import EtlError
from etl.job import Job
from etl.json_lines import json_lines
from etl.model import Chunk, Reject, RowRange, Tally, Warned
from etl.pipeline.changed import Changed, UserCount
from etl.pipeline.destinations import at_destination, destination_diff_base
from etl.pipeline.looking import look_for_leavers, scratch, survey_of
from etl.pipeline.notices import LargeNumbers, source_warnings, warnings_of
from etl.pipeline.precheck import refusal
from etl.pipeline.production import Production
from etl.pipeline.settings import Settings, at_endpoint
from etl.reader import Source

_EXAMPLES: Final = 3


@dataclass(slots=True)
class Forecast:
    """What a run of the job would do, unless the server refuses rows.

    `tally.requests` and `tally.bytes` (of request bodies, before they are compressed) are those of a run
    without retries; `examples` has up to three rejects for each code, `skipped_values` counts
    values that are left out by the job's wish, by column and reason. `seconds` is what the rates allow.
    `users` are counted once each. `changes` None: nothing is compared. `refused` is with what a run would
    stop before it sent anything.
    """

    job: str
    endpoint: str
    transport: TransportName
    files: int
    tally: Tally = Tally()
    seconds: float = 0.0
    rejects_by_code: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Reject]] = field(default_factory=dict)
    skipped_values: dict[str, dict[str, int]] = field(default_factory=dict)
    warnings: list[Warned] = field(default_factory=list)
    users: int = 0
    changes: Changed | None = None
    refused: EtlError | None = None

    def add(self, chunk: Chunk, overhead: int) -> None:
        """Count a chunk; `overhead` is what a request body has besides the identifications, in bytes."""
        sent = chunk.users > 0
        self.tally += Tally(
            rows=chunk.stop - chunk.first,
            accepted=chunk.users,
            unchanged=chunk.unchanged,
            merged=len(chunk.numbers) - chunk.users,
            rejected=len(chunk.rejects),
            requests=int(sent),
            bytes=(sum(map(len, chunk.body)) + overhead) * sent,
        )
        for column, reason, count in chunk.skipped:
            by_reason = self.skipped_values.setdefault(column, {})
            by_reason[reason] = by_reason.get(reason, 0) + count
        for reject in chunk.rejects:
            self.rejects_by_code[reject.code] += 1
            examples = self.examples.setdefault(reject.code, [])
            if len(examples) < _EXAMPLES:
                examples.append(reject)


def forecast(job: Job, source: Source, *, settings: Settings) -> Forecast:
    """Read, map, compare and encode the whole source, send nothing, touch no state.

    Raises EtlError like `run`.
    """
    job = at_endpoint(job, settings)
    folder = StateFolder(settings.state_dir or job.state_dir)
    with destination_diff_base(job, folder, full=settings.full) as diff_base:
        limits = settings.limits(job.destination.transport)
        own = at_destination(folder, job.destination.endpoint)
        found = _forecast(Production.of(job, source, limits).on(diff_base), own, settings)
        rows = found.tally.rows
        found.refused = refusal(job, source, folder, settings, users=diff_base.users, rows=rows)
        return found


def _forecast(production: Production, folder: StateFolder, settings: Settings) -> Forecast:
    job, source = production.job, production.source
    found = Forecast(
        job.name,
        job.destination.endpoint,
        job.destination.transport,
        len(source.files),
        warnings=[*warnings_of(job), *source_warnings(job, source)],
    )
    found.warnings += production.diff_base.warnings
    key_length = 32  # what Amplitude's keys have
    overhead = TRANSPORTS[job.destination.transport].frame_bytes + key_length
    beside = scratch(folder)
    with (
        look_for_leavers(production, folder, record=False) as leavers,
        UserCount(production.diff_base, beside, production.splice) as users,
    ):
        survey = survey_of(production, beside)
        if survey is not None:
            production = production.knowing(survey.final)
        made = production.chunks(production.files(), watch=users.add)
        left = leavers.chunks([RowRange(len(source.files))]) if leavers else iter(())
        large = LargeNumbers(found.warnings.append)
        for chunk in chain.from_iterable(chain(made, left)):
            found.add(chunk, overhead)
            large.look(chunk)
        found.warnings += leavers.warnings() if leavers else ()
        found.users, found.changes = users.total()
    found.seconds = _seconds(found.tally, settings)
    return found


def preview(job: Job, source: Source, *, count: int = 5) -> Iterator[str]:
    """The first `count` identifications, one JSON text each, before rows of one user are merged."""
    production = Production.of(job, source, Limits())
    for file in production.files():
        for batch in production.read(file):
            identifications = production.mapper.map(batch).identifications
            if count > 0 and identifications.num_rows:
                text = json_lines(identifications.slice(0, count), splice=production.splice)
                lines = text.decode().rstrip("\n").split("\n")
                yield from lines
                count -= len(lines)
            if count <= 0:
                return


def _seconds(tally: Tally, settings: Settings) -> float:
    """The time that the rates allow, in seconds; 0 where nothing limits it."""
    times = [0.0]
    if settings.rate is not None:
        times.append(tally.accepted / settings.rate)
    if settings.requests_per_second is not None:
        times.append(tally.requests / settings.requests_per_second)
    return max(times)
