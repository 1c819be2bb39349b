"""A look at the whole source before anything is sent: how much changed, and what needn't be read again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from etl.changes import Compared, Differ, Snapshot
from etl.changes.bits import Bits
from etl.errors import TooManyChangesError
from etl.keys import user_keys
from etl.model import Settled, Stretch, Tally
from etl.pipeline.production import Production


class Survey:
    """How many users of a snapshot have changed, each counted once; and where nothing is to be done.

    `idle` are the stretches in which there is nothing to send and nothing to hand back.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._changed = Bits(len(snapshot))
        self.idle: list[Stretch] = []
        self._ends: dict[int, int] = {}

    @property
    def changed(self) -> int:
        """How many users have changed. One of whom only an increment is sent has not."""
        return len(self._changed)

    def add(self, gap: Stretch, compared: Compared) -> None:
        """Count a batch of a stretch."""
        rows = np.flatnonzero(compared.changes.any(axis=1))
        if len(rows):
            users = user_keys(compared.mapped.identifications.take(pa.array(rows)))[:, 0]
            self._changed.add(self._snapshot.find(users))
        batch = compared.mapped.batch
        self._ends[gap.file] = batch.stop
        if not len(compared.mapped.kept) and not compared.mapped.rejects:
            self._idle(Stretch(gap.file, batch.first, batch.stop))

    def settled(self) -> list[Settled]:
        """The idle stretches at the beginning and the end of each file, settled.

        Others would leave gaps, and text before a gap has to be gone through for each of them.
        """
        outer = [one for one in self.idle if one.first == 1 or one.stop == self._ends[one.file]]
        rows = [(stretch, (stretch.stop or stretch.first) - stretch.first) for stretch in outer]
        return [Settled(stretch, Tally(rows=n, unchanged=n)) for stretch, n in rows]

    def check(self, most: float, known: int) -> None:
        """Raise TooManyChangesError if more than `most` percent of the `known` users changed."""
        if self.changed * 100 > most * known:
            raise TooManyChangesError(
                f"{self.changed:,} of {known:,} known users changed, and --max-changes is {most:g}%; "
                "nothing was sent",
                hint="look at it with `propsync check`; if it is right, run with --max-changes 100%",
            )

    def _idle(self, stretch: Stretch) -> None:
        last = self.idle[-1] if self.idle else None
        if last is not None and (last.file, last.stop) == (stretch.file, stretch.first):
            self.idle[-1] = Stretch(stretch.file, last.first, stretch.stop)
        else:
            self.idle.append(stretch)


def surveyed(production: Production, differ: Differ, snapshot: Snapshot) -> Survey:
    """Read, map and compare the whole source; encode and send nothing."""
    survey = Survey(snapshot)
    for file in production.files():
        for compared in production.compared(file, differ):
            survey.add(file, compared)
    return survey
