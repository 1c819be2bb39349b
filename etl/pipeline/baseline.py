"""`baseline`: the snapshot of a source that Amplitude is known to have already. Nothing is sent."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from uuid import uuid4

from ..checkpoint.in_flight_file import read_in_flight
from ..errors import StaleCheckpointError, UsageError
from ..job.spec import Job
from ..reader import Source
from ..snapshot import DeviceLinks, SnapshotWriter, fingerprints_of
from ..subject import user_keys
from .diff_base import open_diff_base, renewed_ids, uncommitted_flights
from .job_source import JobSource
from .resume import load_checkpoint
from .run_inputs import RunInputs
from .settings import Settings
from .status import destination_folder


@dataclass(slots=True)
class Recorded:
    """The result of a baseline: `rows` of the source, of which `rejected` couldn't be recorded.

    `entries` is the number of users in the snapshot.
    """

    job: str
    rows: int = 0
    rejected: int = 0
    entries: int = 0
    rejects_by_code: Counter[str] = field(default_factory=Counter)


def record_baseline(job: Job, source: Source, *, settings: Settings) -> Recorded:
    """Record the whole source as sent. Raises EtlError.

    Users of an older snapshot who aren't in the source stay in it.
    """
    inputs = RunInputs.of(job, source, settings)
    job, folder, rows = inputs.job, inputs.folder, JobSource(inputs.job, source)
    folder.prepare()
    recorded = Recorded(job.name)
    with folder.hold(), open_diff_base(job, folder) as diff_base:
        own, layout = destination_folder(folder, job.destination.endpoint), diff_base.layout
        if layout is None:
            raise UsageError("`changes: off` keeps no snapshot", hint="take it out of the job file")
        left = read_in_flight(folder.in_flight)
        with load_checkpoint(folder, left) or nullcontext() as found:
            if found is not None and not found.progress().finished:
                in_flight = uncommitted_flights(left, found.progress(), found)
                if found.arrived() or in_flight != ():
                    raise StaleCheckpointError(
                        f"{folder.checkpoint} keeps an unfinished run, which compares with the snapshot as "
                        "it is",
                        hint="finish that run first, or drop it with `propsync run --restart`",
                    )
        header, links = diff_base.header(job, uuid4().hex), DeviceLinks(diff_base.snapshot)
        if layout.paired and source.repeatable:  # a row of a device alone may come before its user's
            for batch in rows.read_all():
                links.collect(user_keys(rows.mapper.ids(batch)))
        keeps_ids = job.changes.absent == "unset"
        with (
            SnapshotWriter(own.snapshot, layout, header, old=diff_base.snapshot) as renewal,
            renewed_ids(own, header) if keeps_ids else nullcontext() as ids,
        ):
            for mapped in rows.mapped_all(coded=True):
                recorded.rows += mapped.batch.stop - mapped.batch.first
                recorded.rejected += len(mapped.rejects)
                recorded.rejects_by_code.update(reject.code for reject in mapped.rejects)
                identifications = mapped.identifications
                fingerprints = fingerprints_of(identifications, layout, rows.splice)
                renewal.add(links.resolve(user_keys(identifications)), fingerprints)
                if ids is not None:
                    ids.add(identifications)
            # First the ids: those of users who aren't in the snapshot do nothing.
            if ids is not None:
                ids.finish()
            recorded.entries = renewal.finish()
    return recorded
