from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox.limiter import RollingCount, TokenBucket

from .client import HandClock


@given(
    st.floats(0.5, 1000),
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 50)), min_size=1, max_size=60),
)
def test_a_bucket_never_lets_more_through_than_its_rate(
    rate: float, requests: list[tuple[float, int]]
) -> None:
    clock = HandClock(0.0)
    bucket = TokenBucket(rate, clock)
    taken = 0
    for pause, tokens in requests:
        clock.now += pause
        if bucket.take(tokens):
            taken += tokens
            # A second's worth at once, and one request's debt.
            assert taken <= rate * clock.now + max(rate, 1.0) + tokens + 1e-6


def test_a_request_above_a_seconds_worth_passes_in_the_end() -> None:
    clock = HandClock()
    bucket = TokenBucket(100, clock)
    assert bucket.take(500)
    clock.now += 4.9
    assert not bucket.take(500)
    clock.now += 0.2
    assert bucket.take(500)


def test_a_refused_request_costs_nothing() -> None:
    clock = HandClock()
    bucket = TokenBucket(10, clock)
    assert bucket.take(10)
    clock.now += 0.5
    assert not any(bucket.take(6) for _ in range(100))
    assert bucket.take(5)


@given(st.lists(st.floats(0, 5), max_size=80))
def test_no_window_ever_holds_more_than_its_most(pauses: list[float]) -> None:
    clock = HandClock(0.0)
    count = RollingCount(6, 10.0, clock)
    taken: list[float] = []
    for pause in pauses:
        clock.now += pause
        recent = [time for time in taken if time > clock.now - 10.0]
        assert count.full("user-1") == (len(recent) >= 6)
        if not count.full("user-1"):
            count.add("user-1")
            taken.append(clock.now)
    assert not count.full("user-2")
