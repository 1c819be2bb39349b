"""How often requests fail by chance while the destination is up, and what chance does not explain. No I/O.

Where one of three back ends is down, a third of all requests fails, and each passes when it is tried again. So
a failure says little, and n failures in a row say that n such chances met: their odds are share ** n.
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
# With odds above one in ten to this they are nothing special.
_PLAUSIBLE: Final = 2.0
# Among the halves of a part that is at fault one is at fault: less is needed to tell which, down to one try.
_LEAST_SHARE_OF_HALVES: Final = 0.01


class FailureShare:
    """The share of requests that fail, measured where requests pass: an outage does not count as chance."""

    def __init__(self) -> None:
        self._failed = 0.0
        self._passed = 0.0

    def passed(self, failures: int) -> None:
        """A request passed, and `failures` had failed since the one before; no more than chance explains."""
        explained = min(failures, math.ceil(_SURE / self._decades(1, _LEAST_SHARE)))
        self._failed = self._failed * _FADING + explained
        self._passed = self._passed * _FADING + 1

    def is_no_chance(self, failures: int) -> bool:
        """Whether so many failures in a row have another reason than chance."""
        return self._decades(failures, _LEAST_SHARE) >= _SURE

    def tells_halves_apart(self, failures: int) -> bool:
        """Whether so many failures in a row of one of two halves show that it is the one at fault."""
        return self._decades(failures, _LEAST_SHARE_OF_HALVES) >= _PLAUSIBLE

    def doublings(self, failures: int) -> int:
        """How often the wait before the next try has doubled; 0 while the failures are nothing special."""
        return max(0, math.floor(self._decades(failures, _LEAST_SHARE) - _PLAUSIBLE) + 1)

    def _decades(self, failures: int, least: float) -> float:
        """The odds of so many failures in a row are one in ten to this."""
        share = self._failed / (self._failed + self._passed) if self._passed else 0.0
        return -failures * math.log10(max(share, least))
