"""A look at the whole source before anything is sent: how much changed, and what needn't be read again."""

from __future__ import annotations

from dataclasses import dataclass, field

from etl.changes import Compared, Differ
from etl.errors import TooManyChangesError
from etl.model import Settled, Stretch, Tally
from etl.pipeline.production import Production


@dataclass(slots=True)
class Survey:
    """Rows of users that the snapshot doesn't know, of users who changed, and of those who didn't.

    `idle` are the stretches in which there is nothing to send and nothing to hand back.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    idle: list[Stretch] = field(default_factory=list)

    def add(self, gap: Stretch, compared: Compared) -> None:
        """Count a batch of a stretch."""
        new = int(compared.new.sum())
        self.new += new
        self.changed += len(compared.new) - new
        self.unchanged += compared.unchanged
        batch = compared.mapped.batch
        if not len(compared.mapped.kept) and not compared.mapped.rejects:
            self._idle(Stretch(gap.file, batch.first, batch.stop))

    def settled(self) -> list[Settled]:
        """The idle stretches, settled."""
        rows = [(stretch, (stretch.stop or stretch.first) - stretch.first) for stretch in self.idle]
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


def surveyed(production: Production, differ: Differ) -> Survey:
    """Read, map and compare the whole source; encode and send nothing."""
    survey = Survey()
    for file in production.files():
        for compared in production.compared(file, differ):
            survey.add(file, compared)
    return survey
