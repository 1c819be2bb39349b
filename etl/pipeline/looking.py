"""A look at the whole source before anything is sent: who left, and how much of it changed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from etl.checkpoint import Checkpoint, StateFolder
from etl.model import Tally
from etl.pipeline.leavers import Leavers, roll_call
from etl.pipeline.production import Production
from etl.pipeline.settings import Settings
from etl.pipeline.survey import surveyed


def look_for_leavers(
    production: Production, folder: StateFolder, *, record: bool
) -> AbstractContextManager[Leavers | None]:
    """Who left, while it is open; None where nobody asks, or where the source can't be all of the users.

    `record`: ids are kept, so that those who leave some day can be told.
    """
    source = production.source
    if production.job.changes.absent == "keep" or source.holds_rejects or not source.repeatable:
        return nullcontext()
    return roll_call(production, folder, record=record)


def look_for_changes(production: Production, checkpoint: Checkpoint, settings: Settings) -> None:
    """Raise TooManyChangesError if too many users changed. What didn't change is settled at once."""
    most = production.basis.most_changes(production.job, settings.max_changes)
    differ, snapshot = production.differ(), production.basis.snapshot
    if most is None or most >= 100 or differ is None or snapshot is None or not production.source.repeatable:
        return
    began = settings.clock.now()
    survey = surveyed(production, differ, snapshot)
    survey.check(most, production.basis.users)
    checkpoint.settle(survey.settled(), Tally(), settings.clock.now() - began)
