"""Chunks are committed in groups, one transaction after the other, and none after one that failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from etl.checkpoint import Checkpoint
from etl.errors import StateError
from etl.model import CommittedRows
from etl.pipeline.send_loop import Committer
from etl.pipeline.settings import Settings
from etl.sender import Outcome
from etl.tally import Tally
from tests.sender.fake_server import chunk_of


class Store:
    """A checkpoint that notes what is committed, waits for `go`, and fails at one transaction."""

    def __init__(self, failing: int | None = None) -> None:
        self.tally, self.commits = Tally(), 0  # of the progress before
        self.failing = failing
        self.groups: list[list[int]] = []
        self.go = threading.Event()

    def progress(self) -> Store:
        return self

    def commit(self, rows: Sequence[CommittedRows], meter: Tally, seconds: float) -> None:
        self.go.wait(10)
        self.groups.append([committed.row_range.first for committed in rows])
        if len(self.groups) == self.failing:
            raise StateError("the disk is full")


async def committed(store: Store, *, more: int = 0) -> list[BaseException | None]:
    """Commit three chunks at once, and then some more one by one; the error of each."""

    async def commit(first: int) -> None:
        await committer.commit(chunk_of([f"user-{first}"], first), Outcome(Tally(accepted=1)))

    settings = Settings(progress_every=0.0)
    with Committer(cast("Checkpoint", store), settings, lambda event: None, Tally) as committer:
        asyncio.get_running_loop().call_later(0.01, store.go.set)
        found: list[Any] = await asyncio.gather(*(commit(n) for n in (1, 2, 3)), return_exceptions=True)
        for first in range(4, 4 + more):
            found += await asyncio.gather(commit(first), return_exceptions=True)
        assert committer.commits == len(store.groups) - (store.failing is not None)
    return found


def test_what_gathers_while_a_transaction_is_written_is_the_next_one() -> None:
    store = Store()
    assert asyncio.run(committed(store, more=1)) == [None] * 4
    assert store.groups == [[1], [2, 3], [4]]


@pytest.mark.parametrize(("failing", "groups"), [(1, [[1]]), (2, [[1], [2, 3]])])
def test_after_a_failed_transaction_nothing_more_is_written(failing: int, groups: list[list[int]]) -> None:
    """A later one may build on the rows of the failed one; each chunk that wants one gets the first error."""
    store = Store(failing)
    errors = asyncio.run(committed(store, more=2))
    assert store.groups == groups
    # Also the chunks that share a failed transaction with the one that began it.
    assert [isinstance(error, StateError) for error in errors] == [failing == 1, True, True, True, True]
