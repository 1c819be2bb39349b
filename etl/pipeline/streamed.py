"""What a run notes of a source that comes only once, while its rows go by: there is no look at it before."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from etl.checkpoint import Checkpoint, StateFolder
from etl.pipeline.production import Production
from etl.snapshot import Compared, IdsRenewal, KnownIds, Unchanged


class StreamNotes:
    """Whom the run finds as they were, and with `absent: unset` everybody's ids. Use it as a context manager.

    Of a source that can be read again it notes nothing.
    """

    def __init__(self, production: Production, folder: StateFolder) -> None:
        job, diff_base = production.job, production.diff_base
        once = not production.source.repeatable
        compares = once and diff_base.snapshot is not None and not diff_base.full
        self._unchanged = (
            Unchanged(diff_base.snapshot) if compares and diff_base.snapshot is not None else None
        )
        self._keeps_ids = once and job.changes.absent == "unset"
        self._ids: IdsRenewal | None = None
        self._stamp = diff_base.stamp(job, production.run_id)
        self._folder = folder
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._keeps_ids:
            old = KnownIds.open(self._folder.ids)
            if old is not None:
                self._open.enter_context(old)
            self._ids = self._open.enter_context(IdsRenewal(self._folder.ids, self._stamp, old=old))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def take(self, compared: Compared) -> None:
        """A batch goes by."""
        if self._unchanged is not None and compared.seen is not None:
            self._unchanged.add(compared.seen)
        if self._ids is not None:
            self._ids.add(compared.mapped.identifications if compared.ids is None else compared.ids)

    def keep(self, checkpoint: Checkpoint) -> None:
        """The last one has gone by. Raises StateError."""
        if self._unchanged is not None:
            checkpoint.keep_unchanged(bytes(self._unchanged.entries))
        if self._ids is not None:
            self._ids.finish()


__all__ = ["StreamNotes"]
