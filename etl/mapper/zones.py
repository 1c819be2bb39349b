"""Time zones: what a clock on the wall shows, as moments in UTC, and the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.mapper.cells import Mask

Ints = NDArray[np.int64]

_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class WallClock:
    """How times are read that don't say their zone: as those of `zone`; None means UTC.

    `on_wall`: what is wanted is what a clock in that zone shows, not the moment in UTC.
    """

    zone: str | None = None
    on_wall: bool = False

    def read(self, seconds: Ints, good: Mask, *, said: Mask) -> tuple[Ints, Mask]:
        """Seconds as wanted, and which are good, shape (n,) each.

        Where a zone was `said`, the seconds are moments in UTC, elsewhere what a clock shows.
        """
        if self.zone is None:
            return seconds, good
        sure = np.where(good, seconds, 0)
        if self.on_wall:
            return np.where(said, shown(sure, self.zone), seconds), good
        moments, there = moments_in(sure, self.zone)
        return np.where(said, seconds, moments), good & (said | there)


UTC: Final = WallClock()


def moments_in(seconds: Ints, zone: str) -> tuple[Ints, Mask]:
    """What a clock in a zone shows as moments in UTC, and which of these times there are; shape (n,) each.

    A time that comes twice, when clocks are put back, is the first of both. One that clocks leave out is
    none, but a day that begins with such a time begins with the next one.
    """
    times = pa.array(seconds).cast(pa.timestamp("s"))
    moments = pc.assume_timezone(times, zone, ambiguous="earliest", nonexistent="latest").cast(pa.int64())
    found: Ints = moments.to_numpy(zero_copy_only=False)
    return found, (shown(found, zone) == seconds) | (seconds % _DAY == 0)


def shown(moments: Ints, zone: str) -> Ints:
    """What a clock in a zone shows at moments in UTC, as seconds since 1970 on it; shape (n,)."""
    times = pa.array(moments).cast(pa.timestamp("s", tz=zone))
    seconds: Ints = pc.local_timestamp(times).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return seconds
