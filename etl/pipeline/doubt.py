"""What the snapshot is to believe of a run that will not be resumed: what arrived, and who is in doubt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from etl.checkpoint import Checkpoint, Entries, Flight, Left, Progress, StateFolder
from etl.keys import without_users
from etl.model import RowRange
from etl.pipeline.about import About
from etl.pipeline.destinations import at_destination
from etl.pipeline.diff_base import DOUBTFUL, DiffBase
from etl.ranges import RangeSet
from etl.snapshot import Bits, KnownIds, Layout, Renewal, Snapshot, Stamp
from etl.state_files import state_error


def restarted_id(run_id: str) -> str:
    """The id in the stamp of a snapshot that has what was accepted of a run which is not to be resumed."""
    return f"{run_id}-restarted"


def snapshot_id(folder: StateFolder, about: About) -> str:
    """The run that made the snapshot which a run compares with; "" where there is none that fits."""
    if about.layout is None:
        return ""
    with Snapshot.open(at_destination(folder, about.endpoint).snapshot) or nullcontext() as found:
        return found.stamp.run_id if found is not None and _fits(found, about, about.layout) else ""


def unsettled(left: Left | None, progress: Progress, found: Checkpoint) -> tuple[Flight, ...] | None:
    """Who was in flight when a run's last process ended; None where nobody knows."""
    if left is None or left.mark.run_id != progress.run_id:
        # The file is made before anything is sent, and the run's first transaction comes after that.
        return () if progress.commits == 0 else None
    if not left.known:
        return None
    ranges = RangeSet(found.committed(), found.held())
    found_open = (_narrowed(flight, ranges, found) for flight in left.flights if _has_gap(ranges, flight))
    return tuple(flight for flight in found_open if len(flight.keys))


def keep_accepted(folder: StateFolder, found: Checkpoint, flights: Sequence[Flight] | None) -> None:
    """Let the snapshot have what was accepted of an unfinished run; the users in flight are in doubt.

    Where nobody knows who these are (`flights` None), or the snapshot isn't the one that the run compares
    with, all users are. Done twice it is done once. Raises StateError, StaleCheckpointError.
    """
    progress = found.progress()
    about = About.read(progress.about)
    if about.layout is None:
        return
    own = at_destination(folder, about.endpoint)
    stamp = Stamp(progress.number, restarted_id(progress.run_id), about.endpoint, about.fingerprint)
    with Snapshot.open(own.snapshot) or nullcontext() as snapshot:
        old = snapshot if snapshot is not None and _fits(snapshot, about, about.layout) else None
        if old is not None and old.stamp.run_id == stamp.run_id:
            return
        if flights is None or progress.base != ("" if old is None else old.stamp.run_id):
            _doubt(own, about.layout, old, stamp, (entries.keys for entries in found.sent()))
            return
        diff_base = DiffBase(about.layout, old, number=progress.number)
        diff_base.renew_as(
            own.snapshot,
            stamp,
            lambda: _with_flights(found.sent(), flights),
            about.files,
            _unchanged(found, old),
        )


def complete(folder: StateFolder, found: Checkpoint) -> Iterable[NDArray[np.uint64]]:
    """Write the snapshot of a run of which nothing else is left to do; the keys of users who left.

    Raises StateError, StaleCheckpointError.
    """
    progress = found.progress()
    about = About.read(progress.about)
    if about.layout is None:
        return []
    own = at_destination(folder, about.endpoint)
    with Snapshot.open(own.snapshot) or nullcontext() as snapshot:
        old = snapshot if snapshot is not None and _fits(snapshot, about, about.layout) else None
        if old is None or old.stamp.run_id != progress.run_id:
            stamp = Stamp(progress.number, progress.run_id, about.endpoint, about.fingerprint)
            unchanged = _unchanged(found, old)
            DiffBase(about.layout, old).renew_as(own.snapshot, stamp, found.sent, about.files, unchanged)
    return (e.keys[:, 0] for e in found.sent((about.files, 0)) if e.end == "accepted")


def doubt_everyone(folder: StateFolder, layout: Layout | None, endpoint: str, number: int) -> None:
    """Let the snapshot keep its users, so that it is known who left, but not what they have.

    For the run `number`, of which nothing is known any more. Raises StateError, StaleCheckpointError.
    """
    with Snapshot.open(folder.snapshot) or nullcontext() as old:
        if old is None:
            if layout is not None and folder.ids.exists():
                _doubt(folder, layout, None, Stamp(number, uuid4().hex, endpoint, DOUBTFUL), ())
            return
        if layout is None or old.mode != layout.mode:
            forget_everyone(folder)
            return
        _doubt(folder, layout, old, replace(old.stamp, run_id=uuid4().hex), ())


def forget_everyone(folder: StateFolder) -> None:
    """Keep no snapshot: what is sent from now on isn't recorded. Raises StateError."""
    try:
        folder.snapshot.unlink(missing_ok=True)
    except OSError as error:
        raise state_error(folder.snapshot, error) from error


def _fits(snapshot: Snapshot, about: About, layout: Layout) -> bool:
    return snapshot.stamp.endpoint == about.endpoint and snapshot.mode == layout.mode


def _narrowed(flight: Flight, ranges: RangeSet, found: Checkpoint) -> Flight:
    """A flight without the users who were committed while others of its chunk were held."""
    if ranges.held(RowRange(flight.file, flight.first, flight.stop)) is None:
        return flight
    place, behind = (flight.file, flight.first), (flight.file, flight.first + 1)
    gone = np.concatenate(
        [flight.keys[:0, 0], *(entries.keys[:, 0] for entries in found.sent(place, behind))]
    )
    return replace(flight, keys=without_users(flight.keys, gone))


def _has_gap(ranges: RangeSet, flight: Flight) -> bool:
    return any(
        gap.first < flight.stop and (gap.stop is None or gap.stop > flight.first)
        for gap in ranges.gaps(flight.file)
    )


def _with_flights(sent: Iterable[Entries], flights: Sequence[Flight]) -> Iterator[Entries]:
    """What was sent, and then the users in flight.

    A chunk is committed after all earlier ones that share a user with it, so what is in flight came last.
    """
    yield from sent
    for flight in flights:
        nothing = np.empty((len(flight.keys), 0), np.uint64)
        yield Entries(flight.file, flight.first, flight.keys, nothing, "in_doubt")


def _unchanged(found: Checkpoint, old: Snapshot | None) -> Bits | None:
    """The entries of the old snapshot that the run found as they were; None where that isn't known."""
    data = found.unchanged()
    if data is None or old is None or old.stamp.run_id != found.progress().base:
        return None
    return Bits.read(len(old), data)


def _doubt(
    folder: StateFolder,
    layout: Layout,
    old: Snapshot | None,
    stamp: Stamp,
    sent: Iterable[NDArray[np.uint64]],
) -> None:
    """Keep those whom the old snapshot knows, who were `sent` something or may have been: all in doubt."""
    with Renewal(folder.snapshot, layout, replace(stamp, job=DOUBTFUL), old=old) as renewal:
        before = (keys.reshape(-1, 1) for _, keys in old.sorted_keys()) if old is not None else iter(())
        for keys in chain(before, sent, _named(folder)):
            renewal.doubt(keys, np.empty((len(keys), 0), dtype=layout.dtype))
        renewal.finish()


def _named(folder: StateFolder) -> Iterator[NDArray[np.uint64]]:
    """Everybody whose id is known: the ids of a run are written down before it sends anything."""
    with KnownIds.open(folder.ids) or nullcontext() as ids:
        if ids is not None:
            yield from (keys.reshape(-1, 1) for keys in ids.sorted_keys())


__all__ = [
    "complete",
    "doubt_everyone",
    "forget_everyone",
    "keep_accepted",
    "restarted_id",
    "snapshot_id",
    "unsettled",
]
