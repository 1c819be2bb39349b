"""Who has to wait for whom."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.sender.user_order import Chosen, Claim, UserOrder
from tests.examples import examples

# Multiples of 2**20 fall in one slot: strangers who look alike at first sight.
KEYS = st.lists(
    st.integers(0, 5).map(lambda n: n * 2**20) | st.integers(0, 2**64 - 1),
    min_size=1,
    max_size=8,
)


def keys(values: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return np.array(values, np.uint64).reshape(-1, 1)


def enter(order: UserOrder[Claim], users: list[int]) -> Claim:
    claim = Claim(np.arange(len(users)), keys(users))
    order.enter(claim)
    return claim


@dataclass
class Model:
    """Claims by brute force: of any two that share a key the later one waits, if need be for one between.

    `claims` are in order; of two parts of one chunk, the one with the first identification is the earlier.
    """

    order: UserOrder[Claim] = field(default_factory=UserOrder)
    claims: list[Claim] = field(default_factory=list)

    def split(self, claim: Claim, chosen: Chosen) -> None:
        other = self.order.split(claim, chosen)
        place = self.claims.index(claim)
        self.claims.insert(place + int(claim.places[0] < other.places[0]), other)

    def must_wait(self, claim: Claim) -> bool:
        mine, earlier = set(claim.keys.ravel().tolist()), self.claims[: self.claims.index(claim)]
        return any(mine & set(one.keys.ravel().tolist()) for one in earlier)

    def check(self) -> None:
        for claim in self.claims:
            assert bool(claim.before) == self.must_wait(claim)
            for one in claim.before:
                assert one in self.claims
                assert claim in one.after
                assert set(one.keys.ravel().tolist()) & set(claim.keys.ravel().tolist())
            for one in claim.after:
                assert claim in one.before


@given(st.lists(KEYS, max_size=12), st.data())
@settings(max_examples=examples(200, 40), deadline=None)
def test_a_claim_waits_exactly_as_long_as_an_earlier_one_shares_a_user(
    chunks: list[list[int]], data: st.DataObject
) -> None:
    """Whatever is split, set apart, or leaves out of turn; also where two users of a chunk have one key."""
    model, chance = Model(), data.draw(st.randoms(use_true_random=False))
    for users in [*chunks, *[None] * 30]:
        if users is not None:
            model.claims.append(enter(model.order, users))
        for _ in range(chance.randrange(3) if model.claims else 0):
            claim = chance.choice(model.claims)
            act = chance.choice(["split", "apart", "leave"])
            if act == "split" and len(claim.places) > 1:
                chosen = np.zeros(len(claim.places), np.bool_)
                chosen[chance.sample(range(len(chosen)), chance.randrange(1, len(chosen)))] = True
                model.split(claim, chosen)
            elif act == "apart":
                model.order.park(claim)
            elif act == "leave":
                model.claims.remove(claim)
                model.order.leave(claim)
            if not model.claims:
                break
        model.check()
    for claim in list(model.claims):
        model.claims.remove(claim)
        model.order.leave(claim)
    assert not model.order._taken.any()  # or strangers would look taken for ever
    assert not model.order._queues


@given(KEYS, st.data())
@settings(max_examples=examples(100), deadline=None)
def test_of_a_claim_those_wait_whose_users_are_under_way(users: list[int], data: st.DataObject) -> None:
    order = UserOrder[Claim]()
    first = enter(order, data.draw(st.lists(st.sampled_from(users), min_size=1)))
    claim = enter(order, users)
    under_way = set(first.keys.ravel().tolist())
    assert claim.waiting().tolist() == [user in under_way for user in users]


def calls(act: Callable[[], object]) -> int:
    """How many functions of Python's and of C's are called."""
    count = 0

    def note(frame: FrameType, event: str, found: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("act", ["enter", "leave"])
def test_what_one_costs_does_not_depend_on_how_many_wait(act: str) -> None:
    def cost(waiting: int) -> int:
        order, claims = UserOrder[Claim](), []
        for number in range(waiting):
            claim = enter(order, [0, 1000 + number])
            chosen = np.array([True, False])
            held = order.split(claim, chosen)
            order.park(held)
            order.leave(claim)
            claims.append(held)
        if act == "leave":
            return calls(lambda: order.leave(claims[0]))
        return calls(lambda: enter(order, [0, 1]))

    few, many = cost(10), cost(2000)
    assert many <= few + 20  # a search in an ordered queue


def test_whoever_leaves_wakes_the_next_and_nobody_else() -> None:
    order = UserOrder[Claim]()
    claims = []
    for _ in range(50):
        claims.append(enter(order, [7]))
        order.park(claims[-1])
    for one, following in itertools.pairwise(claims):
        assert order.queue(7)[0] is one
        assert order.leave(one) == [following]
        assert not following.before
