"""The insert_ids of the last seven days: who sends one again is not counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from etl.amplitude import INSERT_ID_DAYS

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT_SECONDS: Final = INSERT_ID_DAYS * 86_400.0
# The kind of id that an insert_id belongs to, that id, and the insert_id.
InsertKey: TypeAlias = tuple[str, str, str]


class InsertIds:
    """Remembers each key for seven days from when it first came; coming again doesn't prolong that."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is monotonic, in seconds."""
        self._clock = clock
        self._first: dict[InsertKey, float] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._first)

    def add(self, key: InsertKey) -> bool:
        """Remember a key; False where it is remembered already."""
        now = self._clock()
        self._forget(now - KEPT_SECONDS)
        if key in self._first:
            return False
        self._first[key] = now
        return True

    def _forget(self, until: float) -> None:
        while self._first:
            oldest = next(iter(self._first))
            if self._first[oldest] > until:
                return
            del self._first[oldest]
