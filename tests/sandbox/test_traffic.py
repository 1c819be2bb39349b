"""Rates and windows, insert_ids that come again within seven days, and users of two requests at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox.profiles import UserKey
from etl.sandbox.traffic import InsertIdMemory, RequestsInFlight, RollingCount, TokenBucket

from .client import HandClock

DAY = 86_400.0


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


def test_a_limit_below_one_in_a_window_lets_the_next_through_when_the_window_is_over() -> None:
    clock = HandClock(0.0)
    count = RollingCount(0.3, 10.0, clock)
    for _ in range(3):
        assert not count.full("user-1")
        count.add("user-1")
        assert count.full("user-1")
        clock.now += 10.1


# --- insert_ids ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 3 * DAY), st.sampled_from("abc")), max_size=50))
def test_a_key_is_new_once_in_seven_days_from_when_it_first_came(steps: list[tuple[float, str]]) -> None:
    clock = HandClock(0.0)
    inserts = InsertIdMemory(clock)
    first: dict[str, float] = {}
    for pause, name in steps:
        clock.now += pause
        new = name not in first or clock.now - first[name] >= 7 * DAY
        assert inserts.add(("user_id", "user-1", name)) == new
        if new:
            first[name] = clock.now


def test_the_same_insert_id_of_another_user_or_device_is_another() -> None:
    inserts = InsertIdMemory(HandClock())
    keys = [("user_id", "one-1", "x"), ("user_id", "two-2", "x"), ("device_id", "one-1", "x")]
    assert [inserts.add(key) for key in keys] == [True, True, True]
    assert not any(inserts.add(key) for key in keys)


# --- requests in flight ----------------------------------------------------------------------------------


def users(*names: str) -> frozenset[UserKey]:
    return frozenset((name, "") for name in names)


def here() -> bool:
    return False


def gone() -> bool:
    return True


def test_a_user_in_two_open_requests_is_noticed() -> None:
    in_flight = RequestsInFlight()
    first, second = in_flight.begin(here), in_flight.begin(here)
    assert in_flight.set_users(first, users("a", "b", "c")) == 0
    assert in_flight.set_users(second, users("b", "c", "d")) == 2


def test_a_request_that_began_before_the_other_ended_is_noticed() -> None:
    in_flight = RequestsInFlight()
    first, second = in_flight.begin(here), in_flight.begin(here)
    in_flight.set_users(first, users("a"))
    in_flight.end(first)
    assert in_flight.set_users(second, users("a")) == 1


def test_requests_one_after_the_other_never_meet() -> None:
    in_flight = RequestsInFlight()
    other = in_flight.begin(here)
    for _ in range(3):
        request = in_flight.begin(here)
        assert in_flight.set_users(request, users("a")) == 0
        in_flight.end(request)
    in_flight.end(other)


def test_a_request_whose_client_hung_up_doesnt_count_against_its_resend() -> None:
    in_flight = RequestsInFlight()
    lost = in_flight.begin(gone)
    in_flight.set_users(lost, users("a"))
    resend = in_flight.begin(here)
    assert in_flight.set_users(resend, users("a")) == 0
    in_flight.end(lost)
    in_flight.end(resend)


def test_what_is_over_is_forgotten() -> None:
    in_flight = RequestsInFlight()
    for _ in range(100):
        in_flight.end(in_flight.begin(here))
    assert len(in_flight._requests) == 0
