"""Who has to wait for whom."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etl.sender.order import Order, without

# Multiples of 2**20 fall in one slot: strangers who look alike at first sight.
KEYS = st.lists(
    st.integers(0, 5).map(lambda n: n * 2**20) | st.integers(0, 2**64 - 1),
    min_size=1,
    max_size=8,
    unique=True,
)


def keys(values: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return np.array(values, np.uint64).reshape(-1, 1)


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=12))
def test_a_chunk_waits_for_exactly_the_open_chunks_that_share_a_user(
    chunks: list[tuple[list[int], bool]],
) -> None:
    order = Order()
    under_way: dict[int, set[int]] = {}
    for ticket, (users, leaves) in enumerate(chunks, start=1):
        expected = [other for other, theirs in under_way.items() if theirs & set(users)]
        assert order.enter(ticket, keys(users)) == expected
        under_way[ticket] = set(users)
        if leaves:
            order.leave(ticket)
            del under_way[ticket]


@given(KEYS, KEYS)
def test_narrowing_lets_the_others_go_but_not_before_it(users: list[int], other: list[int]) -> None:
    order = Order()
    order.enter(1, keys(users))
    order.narrow(1, keys(users[:1]))
    assert (order.enter(2, keys(other)) == [1]) == bool({*users} & {*other})
    assert order.shared(1, keys(other)).ravel().tolist() == [user == users[0] for user in other]


def test_who_has_left_holds_up_nobody() -> None:
    order = Order()
    order.enter(1, keys([1, 2, 3]))
    order.leave(1)
    assert not order.has(1)
    assert order.enter(2, keys([1])) == []
    assert not order.shared(1, keys([1])).any()


PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=12)


@given(PAIRS, st.data())
def test_of_equal_keys_those_not_taken_are_left(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    gone = data.draw(st.lists(st.sampled_from(range(len(pairs))), min_size=1, unique=True))
    everyone = np.array(pairs, np.uint64)
    left = without(everyone, everyone[gone])
    assert Counter(map(tuple, left.tolist())) == Counter(pairs) - Counter(pairs[place] for place in gone)
