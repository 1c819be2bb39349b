"""Random users of an export, each as likely as any other, taken in one pass; and what a sample proves.

Every user has a random priority, the hash of the id and of the seed, and those with the lowest ones are the
sample. So a user who belongs to it was among the lowest from the first row on. Memory holds the sample.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ..arrow.hashing import mix_bits
from ..arrow.json_lines import Splice, json_lines
from ..snapshot import KeyFilter
from ..subject import Subject, id_keys, names_device_alone, user_keys
from .expected_profile import ExpectedProfile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..amplitude.user_profile import UserProfile

CONFIDENCE: Final = 0.95


@dataclass(slots=True)
class SampledUser:
    """A user of the sample: its id by the field that holds it, and what the export leaves of it."""

    ids: dict[str, str]
    expected: ExpectedProfile = field(default_factory=ExpectedProfile)

    @property
    def name(self) -> str:
        """The id."""
        return next(iter(self.ids.values()))


class UserSample:
    """The `size` users whose priorities are the lowest; feed it all identifications of the export in order.

    Rows of a job with both ids that name a device alone count as a user of their own.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = mix_bits(np.array([seed % 2**64], dtype=np.uint64))
        self._lowest: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._users: dict[int, SampledUser] = {}
        self._devices = KeyFilter()  # those that a row names alone
        self._both_ids = False

    @property
    def users(self) -> list[SampledUser]:
        """The users of the sample, in random order."""
        return [self._users[priority] for priority in self._lowest.tolist()]

    def add(self, identifications: pa.RecordBatch, splice: Splice | None) -> None:
        """Take the next identifications; `splice` makes JSON lines of marked strings what they stand for."""
        keys, subject = user_keys(identifications), Subject.of(identifications.schema.names)
        self._both_ids = subject.link is not None
        self._devices.add(keys[:, 0] if subject.lead == "device_id" else keys[names_device_alone(keys), 0])
        priorities = mix_bits(keys[:, 0] ^ self._seed)
        full = len(self._lowest) == self._size
        rows = np.flatnonzero(priorities <= self._lowest[-1]) if full else np.arange(len(priorities))
        before = self._lowest
        self._lowest = np.unique(np.concatenate([before, priorities[rows]]))[: self._size]
        for priority in np.setdiff1d(before, self._lowest, assume_unique=True).tolist():
            del self._users[priority]
        rows = rows[np.isin(priorities[rows], self._lowest)]
        lines = json_lines(identifications.take(pa.array(rows)), splice=splice)
        for priority, line in zip(priorities[rows].tolist(), lines.splitlines(), strict=True):
            found: dict[str, Any] = json.loads(line)
            if priority not in self._users:
                name = subject.lead if subject.lead in found else "device_id"
                self._users[priority] = SampledUser({name: found[name]})
            self._users[priority].expected.apply(found)

    def is_shared(self, user: SampledUser, profile: UserProfile | None) -> bool:
        """Whether other rows than the user's may be about the same profile: those of its devices."""
        if profile is None or not self._devices:
            return False
        own = user.ids.get("device_id")
        others = pa.array([one for one in profile.device_ids if one != own], pa.string())
        of_user = self._both_ids and own is not None and profile.user_id is not None
        return of_user or bool(self._devices.has(id_keys("device_id", others)).any())


def right_at_least(right: int, wrong: int) -> float:
    """The least share of users that are right, at CONFIDENCE, if so many of a random sample are.

    The exact bound of Clopper and Pearson, on one side: with this share a sample with so many right ones, or
    more, would come up with the odds of 1 - CONFIDENCE.
    """
    n = right + wrong
    if right and not wrong:
        return float((1 - CONFIDENCE) ** (1 / n))
    # The binomial probabilities of 0 to `wrong` wrong ones, at shares found by halving.
    counts = np.arange(wrong + 1)
    steps = np.log(n - counts[:-1]) - np.log(counts[1:])
    ways = np.concatenate([[0.0], np.cumsum(steps)])
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        odds = np.exp(ways + counts * np.log1p(-share) + (n - counts) * np.log(share)).sum()
        if odds > 1 - CONFIDENCE:
            high = share
        else:
            low = share
    return low
