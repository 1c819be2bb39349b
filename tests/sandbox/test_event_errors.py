from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox.event_errors import (
    ID_LENGTH,
    INVALID,
    MISSING,
    SILENCED,
    EventError,
    find_event_errors,
    refusal_of_events,
)

from .client import event
from .test_checks import BAD, GOOD

WRONG: dict[str, tuple[dict[str, Any], dict[str, object]]] = {
    "no type": (event(1, event_type=None), {MISSING: {"event_type": [1]}}),
    "empty type": (event(1, event_type=""), {MISSING: {"event_type": [1]}}),
    "type is a number": (event(1, event_type=3), {INVALID: {"event_type": [1]}}),
    "no id": (event(1, user_id=None), {MISSING: {"user_id": [1], "device_id": [1]}}),
    "short id": (event(1, user_id="1234"), {ID_LENGTH: {"user_id": [1]}}),
    "short device": (event(1, device_id="1234"), {ID_LENGTH: {"device_id": [1]}}),
    "long id": (event(1, user_id="x" * 1025), {ID_LENGTH: {"user_id": [1]}}),
    "id is a number": (event(1, user_id=123456), {INVALID: {"user_id": [1]}}),
    "refused id": (event(1, user_id="anonymous"), {INVALID: {"user_id": [1]}}),
    "time as text": (event(1, time="now"), {INVALID: {"time": [1]}}),
    "broken time": (event(1, time=1.5), {INVALID: {"time": [1]}}),
    "truth as time": (event(1, time=True), {INVALID: {"time": [1]}}),
    "insert_id is a number": (event(1, insert_id=3), {INVALID: {"insert_id": [1]}}),
    "properties of the event": (event(1, event_properties=[]), {INVALID: {"event_properties": [1]}}),
    "properties of the user": (event(1, {"$add": {"a": "1"}}), {INVALID: {"user_properties": [1]}}),
    "groups": (event(1, groups=["a"]), {INVALID: {"groups": [1]}}),
    "text field": (event(1, country=49), {INVALID: {"country": [1]}}),
    "two faults": (event(1, time=-1, user_id="1"), {INVALID: {"time": [1]}, ID_LENGTH: {"user_id": [1]}}),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_offender_is_named_by_its_field_and_index(name: str) -> None:
    wrong, told = WRONG[name]
    errors = find_event_errors([event(0), wrong, event(2)], 5)
    error = refusal_of_events(errors, "all")
    assert (error.status, error.details) == (400, told)


def test_an_event_may_be_what_an_identification_may_be_and_nothing_else() -> None:
    assert find_event_errors([{**one, "event_type": "$identify"} for one in GOOD], 5) == []
    found = find_event_errors([{**one, "event_type": "$identify"} for one in BAD.values()], 5)
    assert {one.index for one in found} == set(range(len(BAD)))


def test_the_shortest_id_is_as_the_upload_asks_and_an_empty_one_is_never_right() -> None:
    assert find_event_errors([event(1, user_id="abc")], 3) == []
    assert find_event_errors([event(1, user_id="abcdef")], 7)[0].kind == ID_LENGTH
    assert find_event_errors([event(1, user_id="")], 1)[0].kind == ID_LENGTH
    assert find_event_errors([event(1, user_id=" ")], 1)[0].kind == INVALID
    assert find_event_errors([event(1, user_id="0")], 1)[0].kind == INVALID


def test_a_groups_event_needs_no_user() -> None:
    assert find_event_errors([{"event_type": "$groupidentify", "groups": {"org": "a"}}], 5) == []


ERRORS = st.lists(
    st.builds(
        EventError, st.integers(0, 9), st.sampled_from([INVALID, SILENCED]), st.just("time"), st.just("w")
    ),
    min_size=1,
)


@given(ERRORS)
def test_the_first_offender_alone_is_the_one_with_the_lowest_index(errors: list[EventError]) -> None:
    (told,) = refusal_of_events(errors, "first").details.values()
    named = told["time"] if isinstance(told, dict) else told
    assert named == [min(one.index for one in errors)]
    assert refusal_of_events(errors, "none").details == {}
