from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox.event_endpoint import InsertIdMemory

from .client import HandClock

DAY = 86_400.0


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


def test_what_is_older_than_seven_days_takes_no_memory() -> None:
    clock = HandClock()
    inserts = InsertIdMemory(clock)
    for number in range(1000):
        inserts.add(("user_id", "user-1", str(number)))
    clock.now += 7 * DAY
    inserts.add(("user_id", "user-1", "new"))
    assert len(inserts) == 1


def test_the_same_insert_id_of_another_user_or_device_is_another() -> None:
    inserts = InsertIdMemory(HandClock())
    keys = [("user_id", "one-1", "x"), ("user_id", "two-2", "x"), ("device_id", "one-1", "x")]
    assert [inserts.add(key) for key in keys] == [True, True, True]
    assert not any(inserts.add(key) for key in keys)
