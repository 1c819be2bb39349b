"""Each user of an export is as likely to be in a sample as any other, and what the sample proves holds."""

from __future__ import annotations

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.readback.user_sample import UserSample, right_at_least
from tests.examples import each_row


def batch(ids: list[str], first: int = 0) -> pa.RecordBatch:
    numbers = pa.array(range(first, first + len(ids)), pa.int64())
    properties = pa.StructArray.from_arrays([pa.StructArray.from_arrays([numbers], ["n"])], ["$set"])
    return pa.record_batch({"user_id": pa.array(ids, pa.string()), "user_properties": properties})


def sampled(ids: list[str], size: int, seed: int, cuts: list[int] | None = None) -> list[str]:
    sample, borders = UserSample(size, seed), [0, *sorted(cuts or []), len(ids)]
    for first, stop in pairwise(borders):
        sample.add(batch(ids[first:stop]), None)
    return [user.name for user in sample.users]


IDS = st.lists(st.integers(0, 30).map(lambda n: f"user-{n}"), max_size=60)


@given(ids=IDS, size=st.integers(1, 40), seed=st.integers(), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_a_sample_depends_on_the_seed_and_the_users_alone(
    ids: list[str], size: int, seed: int, cuts: list[int]
) -> None:
    found = sampled(ids, size, seed, [cut for cut in cuts if cut <= len(ids)])
    assert len(set(found)) == len(found) == min(size, len(set(ids)))
    assert found == sampled(sorted(ids, reverse=True), size, seed)


def test_every_user_is_equally_likely_however_many_rows_it_has() -> None:
    ids = [f"user-{n:03}" for n in range(100) for _ in range(1 + 50 * (n == 7))]
    draws = 400
    counts = dict.fromkeys(ids, 0)
    for seed in range(draws):
        sample = UserSample(10, seed)
        sample.add(batch(ids), None)
        for user in sample.users:
            counts[user.name] += 1
    # Each is drawn with odds of a tenth; six standard deviations are hardly ever exceeded.
    assert all(abs(count - draws / 10) < 6 * math.sqrt(draws * 0.09) for count in counts.values())


def test_users_of_a_sample_have_all_their_rows_and_memory_holds_the_sample() -> None:
    """Three rows a user, in three batches one after the other; row numbers are the values."""
    rows, batches, sample = 1_500, 18, UserSample(50, 1)
    tracemalloc.start()
    held = []
    for number in range(batches):
        ids = [f"user-{row % (rows // 3)}-{(number + row // (rows // 3)) // 3}" for row in range(rows)]
        sample.add(batch(ids, number * rows), None)
        held.append(tracemalloc.get_traced_memory()[0])
        rows_of = {user.name: user.expected.properties["n"] for user in sample.users}
    tracemalloc.stop()
    assert held[-1] < held[1] + 40_000
    for name, told in rows_of.items():
        column, group = map(int, name.split("-")[1:])
        pairs = [(n, row) for n in range(batches) for row in range(rows) if row % (rows // 3) == column]
        mine = [n * rows + row for n, row in pairs if (n + row // (rows // 3)) // 3 == group]
        assert [*told.older, told.value] == mine[-9:]


def tail(n: int, right: int, share: float) -> float:
    """The odds of at least so many right ones, term by term."""
    return math.fsum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(right, n + 1))


@each_row(("right", "wrong"), [(1, 0), (400, 0), (0, 3), (1, 1), (398, 2), (1, 99), (50, 50), (999, 1)])
def test_the_bound_is_exact(right: int, wrong: int) -> None:
    bound = right_at_least(right, wrong)
    if right == 0:
        assert bound == 0
        return
    assert tail(right + wrong, right, bound) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(("share", "sample"), [(0.99, 400), (0.9, 30), (0.5, 20), (0.999, 2000)])
def test_the_statement_is_true_at_least_as_often_as_it_says(share: float, sample: int) -> None:
    users, draws = 20_000, 10_000
    random = np.random.default_rng(7)
    right = random.hypergeometric(round(users * share), round(users * (1 - share)), sample, draws)
    bounds = {int(count): right_at_least(int(count), sample - int(count)) for count in np.unique(right)}
    holds = np.mean([bounds[int(count)] <= share for count in right])
    assert holds >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / draws)
    # And it says as much as it can: one right user fewer would be claimed too rarely.
    assert min(bounds.values()) > share - 6 / math.sqrt(sample)
