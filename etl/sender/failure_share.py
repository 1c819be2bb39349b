"""How often requests fail by chance while the destination is up, and what chance does not explain. No I/O.

Where one of three back ends is down, a third of all requests fails, and each passes when it is tried again.
So a failure says little, and n failures in a row say that n such chances met: their odds are share ** n.
"""

from __future__ import annotations

import math
from typing import Final

# What passed long ago counts less: about so many requests that passed are remembered.
_REMEMBERED: Final = 200
_FADING: Final = 1 - 1 / _REMEMBERED
# The share that is assumed at least. A destination that never failed so far may begin to.
_LEAST_SHARE: Final = 0.25
# Failures in a row with odds below one in ten to this are no chance.
_SURE: Final = 6.0
# With odds above one in ten to this they are nothing special: no reason to wait longer.
_PLAUSIBLE: Final = 3.0
# One of the halves of a part at fault is at fault: less is needed to tell which, down to one try.
_TELLING: Final = 2.0
_LEAST_SHARE_OF_HALVES: Final = 0.01


class FailureShare:
    """The share of requests that fail, measured on what passed in the end.

    So neither an outage nor a row that never passes counts as chance.
    """

    def __init__(self) -> None:
        self._failed = 0.0
        self._passed = 0.0

    def passed(self, failures: int) -> None:
        """A part passed, after it had failed so often by chance."""
        self._failed = self._failed * _FADING + failures
        self._passed = self._passed * _FADING + 1

    def is_no_chance(self, failures: int) -> bool:
        """Whether so many failures in a row have another reason than chance."""
        return self._decades(failures, _LEAST_SHARE) >= _SURE

    def tells_halves_apart(self, failures: int) -> bool:
        """Whether so many failures in a row of one of two halves show that it is the one at fault."""
        return self._decades(failures, _LEAST_SHARE_OF_HALVES) >= _TELLING

    def doublings(self, failures: int) -> int:
        """How often the wait before the next try has doubled; 0 while the failures are nothing special."""
        return max(0, math.floor(self._decades(failures, _LEAST_SHARE) - _PLAUSIBLE) + 1)

    def _decades(self, failures: int, least: float) -> float:
        """The odds of so many failures in a row are one in ten to this."""
        share = (self._failed + 1) / (self._failed + self._passed + 2)  # a half where nothing is known
        return -failures * math.log10(max(share, least))
