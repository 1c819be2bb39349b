"""Whether it is rows that are refused, or whoever sends them.

A firewall, a proxy with a small limit or a key that was withdrawn refuses everything; to take that for bad
rows would hand back a whole export. So a row that is refused alone is held until something else is accepted:
then it is a reject. If so many in a row are refused alike and nothing is accepted, the run stops instead.

A row does not count for that if others were accepted after a request with it had been refused: the server
tells rows apart then. When all good rows around it are in, the bad ones of a long range come last.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from etl.errors import DestinationError
from etl.model import Chunk
from etl.responses import KeyRefused, Refused, TooBig
from etl.sender.pause import Pause, StoppedError
from etl.sender.roles import Watcher
from etl.sender.turns import Turns

Refusal: TypeAlias = Refused | TooBig | KeyRefused

# So many rows that were refused alone and alike are no bad rows, if nothing was accepted in between.
_MOST_ALIKE: Final = 20
# After so many refused requests in a row others go one by one, and after so many such rows single ones from
# everywhere are tried: bad rows stand next to each other more often than not.
_PATIENCE: Final = 8
_SUSPICIOUS: Final = 12
_MOST_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Rows that wait to hear whether they are rejects."""

    part: Chunk
    refusal: Refusal
    watcher: Watcher
    expected: bool
    rejected: asyncio.Future[None] = field(default_factory=asyncio.Future)


class Refusals:
    """What was refused since something was last accepted; rules the `turns` by it."""

    def __init__(self, pause: Pause, turns: Turns) -> None:
        self._pause = pause
        self._turns = turns
        self._held: list[_Held] = []
        self._in_a_row = 0
        self._welcome = False
        self.acceptances = 0

    def are_expected(self, since: int | None) -> bool:
        """Whether others were accepted after rows were first refused, which was after `since` acceptances."""
        return since is not None and since < self.acceptances

    def accepted(self) -> None:
        """A request was accepted: what was refused so far was refused for its rows."""
        self._in_a_row = 0
        self._welcome = True
        self.acceptances += 1
        self._follow()
        self._release()

    def slowed_down(self) -> None:
        """A request was throttled, which shows that the key is good."""
        self._welcome = True
        self._follow()

    def refused(self, *, expected: bool) -> None:
        """A request was refused for its content. Raises DestinationError where it wasn't for that."""
        self._in_a_row += not expected
        self._follow()
        if self._in_a_row >= _PATIENCE:
            self._judge()

    async def hold(self, part: Chunk, refusal: Refusal, watcher: Watcher, *, expected: bool) -> None:
        """Wait until the part's identifications, each refused by itself, are known to be rejects.

        Raises DestinationError where they aren't, StoppedError where the run stops meanwhile.
        """
        mine = _Held(part, refusal, watcher, expected)
        self._held.append(mine)
        watcher.held(part)
        self._follow()
        if self._in_a_row >= _PATIENCE:
            self._judge()
        if not await self._pause.unless_stopped(mine.rejected):
            raise StoppedError

    def conclude(self) -> None:
        """Nothing else is left to be sent: few are rejects. Raises DestinationError for many."""
        if self._held and not self._pause.stopping:
            self._judge(key_too=True)
            self._release()

    def _follow(self) -> None:
        impatient = self._in_a_row >= _PATIENCE
        self._turns.single = not self._welcome or impatient
        self._turns.sampling = impatient and max(self._alike().values(), default=0) >= _SUSPICIOUS

    def _alike(self) -> Counter[object]:
        """How many rows are held for refusals that are alike, without those that were expected."""
        alike = Counter[object]()
        for one in self._held:
            if not one.expected:
                alike[_kind(one.refusal)] += one.part.users
        return alike

    def _release(self) -> None:
        held, self._held = self._held, []
        for one in held:
            if not one.rejected.done():
                one.rejected.set_result(None)
                one.watcher.released(one.part)

    def _judge(self, *, key_too: bool = False) -> None:
        for kind, count in self._alike().items():
            if count >= _MOST_ALIKE or (key_too and kind is KeyRefused):
                self._pause.stop()
                raise _stopped(count, [o for o in self._held if not o.expected and _kind(o.refusal) == kind])


def _kind(refusal: Refusal) -> object:
    """What refusals that are alike have in common."""
    return KeyRefused if isinstance(refusal, KeyRefused) else refusal.status


def _stopped(count: int, held: list[_Held]) -> DestinationError:
    refusal = held[-1].refusal
    words = f"{refusal.status} {refusal.words}".rstrip()
    if isinstance(refusal, KeyRefused):
        return DestinationError(
            f"the destination refuses the API key, which it accepted before: {words}", hint=refusal.hint
        )
    return DestinationError(
        f"the destination refuses everything: {count:,} rows in a row were answered {words}; among them "
        f"{_places(held)}",
        hint="these rows are not rejects: check what stands between here and Amplitude, such as a firewall "
        "or a limit on the size of requests, then run the same command again",
    )


def _places(held: list[_Held]) -> str:
    """Where the first of the rows stand."""
    places = [(one.part.source, int(number)) for one in held[:_MOST_SHOWN] for number in one.part.numbers]
    source, shown = places[0][0], sorted(row for name, row in places if name == places[0][0])[:_MOST_SHOWN]
    return f"{source} row {', '.join(f'{row:,}' for row in shown)}"
