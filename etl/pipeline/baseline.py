"""`baseline`: the snapshot of a source that Amplitude is known to have already. Nothing is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from uuid import uuid4

from etl.checkpoint import StateFolder, left_by
from etl.errors import StaleCheckpointError, UsageError
from etl.job import Job
from etl.keys import user_keys
from etl.pipeline.destinations import at_destination
from etl.pipeline.diff_base import DiffBase, diff_base_of
from etl.pipeline.doubt import unsettled
from etl.pipeline.lost import found_whole
from etl.pipeline.production import Production
from etl.pipeline.settings import Settings, at_endpoint
from etl.reader import Source
from etl.snapshot import IdsRenewal, KnownIds, Layout, Links, Renewal, Stamp, fingerprints_of


@dataclass(slots=True)
class Recorded:
    """What a baseline came to: `rows` of the source, of which `rejected` couldn't be recorded.

    `entries` is the number of users that the snapshot knows now.
    """

    job: str
    rows: int = 0
    rejected: int = 0
    entries: int = 0
    rejects_by_code: Counter[str] = field(default_factory=Counter)


def baseline(job: Job, source: Source, *, settings: Settings) -> Recorded:
    """Record the whole source as sent. Raises EtlError.

    Users of an older snapshot who aren't in the source stay in it.
    """
    job = at_endpoint(job, settings)
    production = Production.of(job, source, settings.limits(job.destination.transport))
    folder = StateFolder(settings.state_dir or job.state_dir)
    folder.prepare()
    own = at_destination(folder, job.destination.endpoint)
    with folder.hold(), diff_base_of(job, own) as diff_base:
        if diff_base.layout is None:
            raise UsageError("`changes: off` keeps no snapshot", hint="take it out of the job file")
        _refuse_unfinished(folder)
        return _record(production, diff_base, diff_base.layout, own)


def _refuse_unfinished(folder: StateFolder) -> None:
    left = left_by(folder.in_flight)
    found = found_whole(folder, left)
    if found is None:
        return
    with found:
        progress = found.progress()
        if not progress.finished and (found.arrived() or unsettled(left, progress, found) != ()):
            raise StaleCheckpointError(
                f"{folder.checkpoint} keeps an unfinished run, which compares with the snapshot as it is",
                hint="finish that run first, or drop it with `propsync run --restart`",
            )


def _record(production: Production, diff_base: DiffBase, layout: Layout, folder: StateFolder) -> Recorded:
    recorded = Recorded(production.job.name)
    stamp, links = diff_base.stamp(production.job, uuid4().hex), _links(production, diff_base, layout)
    with (
        Renewal(folder.snapshot, layout, stamp, old=diff_base.snapshot) as renewal,
        _ids(production.job, folder, stamp) as ids,
    ):
        for file in production.files():
            for mapped in production.mapped(file):
                recorded.rows += mapped.batch.stop - mapped.batch.first
                recorded.rejected += len(mapped.rejects)
                recorded.rejects_by_code.update(reject.code for reject in mapped.rejects)
                identifications = mapped.identifications
                fingerprints = fingerprints_of(identifications, layout, production.splice)
                renewal.add(links.follow(user_keys(identifications)), fingerprints)
                if ids is not None:
                    ids.add(identifications)
        # First the ids: of somebody who isn't in the snapshot they do nothing.
        if ids is not None:
            ids.finish()
        recorded.entries = renewal.finish()
    return recorded


def _links(production: Production, diff_base: DiffBase, layout: Layout) -> Links:
    """Whose the devices are that are named alone: the source is looked through for that, if it can be."""
    links = Links(diff_base.snapshot)
    if layout.paired and production.source.repeatable:
        for file in production.files():
            for batch in production.read(file):
                links.look_at(user_keys(production.mapper.ids(batch)))
    return links


@contextmanager
def _ids(job: Job, folder: StateFolder, stamp: Stamp) -> Iterator[IdsRenewal | None]:
    """Where ids are kept for the day on which users leave; None where nobody is unset then."""
    if job.changes.absent == "keep":
        yield None
        return
    with KnownIds.open(folder.ids) or nullcontext() as old, IdsRenewal(folder.ids, stamp, old=old) as renewal:
        yield renewal
