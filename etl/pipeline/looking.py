"""A look at the whole source before anything is sent: who left, and how much of it changed."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from etl.checkpoint import Checkpoint, StateFolder
from etl.model import Tally
from etl.pipeline.leavers import Leavers, keep_ids, roll_call
from etl.pipeline.production import Production
from etl.pipeline.settings import Settings
from etl.pipeline.survey import Survey, surveyed


def look_for_leavers(
    production: Production, folder: StateFolder, *, record: bool
) -> AbstractContextManager[Leavers | None]:
    """Who left, while it is open; None where nobody asks, or where the source can't be all of the users.

    `record`: ids are kept, so that those who leave some day can be told.
    """
    source = production.source
    if production.job.changes.absent == "keep" or not source.repeatable:
        return nullcontext()
    if source.holds_rejects:
        if record:
            keep_ids(production, folder)
        return nullcontext()
    return roll_call(production, folder, record=record)


def look_for_changes(
    production: Production, folder: StateFolder, checkpoint: Checkpoint, settings: Settings, *, begun: bool
) -> Production:
    """The production that knows what differs in the end; what doesn't is committed at once.

    A run that was `begun` by another process looks again, at all of the source: it has to decide as before.
    Raises TooManyChangesError if too many users changed, unless it was begun.
    """
    began = settings.clock.now()
    if production.diff_base.run_id == checkpoint.progress().run_id:
        return production  # everything is sent, and the snapshot written
    survey = survey_of(production, folder.snapshot)
    if survey is None:
        return production
    most = production.diff_base.most_changes(production.job, settings.max_changes)
    if most is not None and most < 100 and not begun:
        survey.check(most, production.diff_base.certain, production.diff_base.doubtful)
    committed = [] if begun else survey.committed()
    checkpoint.commit(committed, Tally(), settings.clock.now() - began)
    checkpoint.keep_unchanged(bytes(survey.final.unchanged))
    return production.knowing(survey.final)


def survey_of(production: Production, path: Path) -> Survey | None:
    """A look at all of the source; None where there is nothing to compare it with, or it comes only once.

    What memory isn't for is written beside `path`, and gone in the end.
    """
    diff_base, differ = production.diff_base, production.differ()
    if differ is None or diff_base.layout is None or diff_base.snapshot is None or diff_base.full:
        return None
    if not production.source.repeatable:
        return None
    return surveyed(production, differ, diff_base.snapshot, diff_base.layout, path)


def scratch(folder: StateFolder) -> Path:
    """A path beside which there may be files for a while, where the state isn't to be touched."""
    with suppress(OSError):
        return Path(tempfile.gettempdir(), "propsync")
    return folder.snapshot
