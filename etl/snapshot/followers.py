"""Which rows come after one of the same user that is sent: these must be sent in full.

Otherwise the older row would have the last word on what the later one leaves out as unchanged. No I/O.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]

_ROUNDS: Final = 8  # a longer chain of users and devices is followed row by row


def followers(positions: Positions, sent: Mask, *, may: Mask) -> Mask:
    """Which of n rows follow a row that is sent, in this order; shape (n,).

    `positions` (shape (n, w)) are each row's users, -1 for none. `sent` rows are sent by themselves; a
    follower is sent, too, where it `may`, and then has followers of its own.
    """
    after = np.zeros(len(sent), dtype=np.bool_)
    for _ in range(_ROUNDS):
        going = sent | (after & may)
        if not going.any():
            return after
        wider = _after(positions, going)
        # With one id, followers share their user with the row that they follow: nobody is added.
        if positions.shape[1] == 1 or np.array_equal(wider, after):
            return wider
        after = wider
    return _row_by_row(positions, sent, may)


def _after(positions: Positions, going: Mask) -> Mask:
    rows = np.flatnonzero(going)
    users, place = np.unique(positions[rows], return_index=True)
    first = rows[place // positions.shape[1]]
    at = np.minimum(np.searchsorted(users, positions), len(users) - 1)
    earlier = (users[at] == positions) & (first[at] < np.arange(len(going))[:, None])
    after: Mask = (earlier & (positions >= 0)).any(axis=1)
    return after


def _row_by_row(positions: Positions, sent: Mask, may: Mask) -> Mask:
    users: set[int] = set()
    after = np.zeros(len(sent), dtype=np.bool_)
    for row, own in enumerate(positions.tolist()):
        after[row] = not users.isdisjoint(own)
        if sent[row] or (after[row] and may[row]):
            users.update(position for position in own if position >= 0)
    return after
