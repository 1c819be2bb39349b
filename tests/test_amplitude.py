"""What an answer means depends on its status; its words are short and without the key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.amplitude import (
    Accepted,
    Refused,
    RefusedSome,
    SlowDown,
    SlowDownSome,
    Stop,
    TooBig,
    TryAgain,
    Verdict,
    judge,
    judge_batch,
    quote_answer,
)
from etl.batch_answer import Named

KEY = "0123456789abcdef0123456789abcdef"


def judged(status: int, body: bytes = b"", **headers: str) -> Verdict:
    return judge(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, key=KEY)


@pytest.mark.parametrize("body", [b"success", b"", b'{"code": 200}', b"\xff\xfe"])
def test_200_is_accepted_whatever_the_body(body: bytes) -> None:
    assert judged(200, body) == Accepted()


@pytest.mark.parametrize(
    "body", [b"invalid_api_key", f"Invalid API key: {KEY}".encode(), b'{"error":"Invalid API key: x"}']
)
def test_a_refused_key_stops_the_run(body: bytes) -> None:
    verdict = judged(400, body)
    assert isinstance(verdict, Stop)
    assert KEY not in verdict.words


@pytest.mark.parametrize("status", [400, 403])
def test_other_refusals_are_about_the_content(status: int) -> None:
    assert judged(status, b"missing_event") == Refused(status, "missing_event")


def test_a_403_is_never_about_the_key() -> None:
    assert isinstance(judged(403, b"invalid_api_key"), Refused)


def test_413_is_too_big() -> None:
    assert judged(413, b"too big") == TooBig("too big")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("1e9", 3600.0),
        ("nan", None),
    ],
)
def test_429_says_how_long_to_wait(header: str, seconds: float | None) -> None:
    assert judged(429, b"slow", Retry_After=header) == SlowDown(seconds, "slow")


@pytest.mark.parametrize(
    ("status", "in_doubt"), [(408, False), (503, False), (500, True), (502, True), (504, True)]
)
def test_failures_of_the_server_are_tried_again(status: int, in_doubt: bool) -> None:
    verdict = judged(status, b"oops")
    assert isinstance(verdict, TryAgain)
    assert verdict.in_doubt == in_doubt


@pytest.mark.parametrize("status", [301, 302, 404, 405, 204])
def test_an_answer_that_amplitude_never_gives_stops_the_run(status: int) -> None:
    assert isinstance(judged(status), Stop)


@given(st.integers(100, 599), st.binary(max_size=3000))
def test_words_are_one_short_line_without_the_key(status: int, noise: bytes) -> None:
    verdict = judged(status, noise[:100] + KEY.encode() + noise[100:])
    words = getattr(verdict, "words", "")
    assert KEY not in words
    assert len(words) <= 540
    assert words == "" or words.isprintable()


def test_the_key_is_blotted_out_before_the_answer_is_cut() -> None:
    assert KEY[:10] not in quote_answer(b"x" * 490 + KEY.encode(), KEY)


def batch_judged(status: int, told: object = None, **headers: str) -> Verdict:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge_batch(status, named, body, key=KEY)


@pytest.mark.parametrize(
    ("told", "ingested"),
    [
        ({"code": 200, "events_ingested": 50, "payload_size_bytes": 1, "server_upload_time": 2}, 50),
        ({"events_ingested": 0}, 0),
        ({"code": 200}, None),
        ({"events_ingested": "50"}, None),
        ({"events_ingested": -1}, None),
        ({"events_ingested": True}, None),
        ({"events_ingested": 1e3}, None),
        ([50], None),
        (b"success", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_batch_is_accepted_and_counted_where_the_answer_says(told: object, ingested: int | None) -> None:
    assert batch_judged(200, told) == Accepted(ingested)


def test_a_refused_batch_names_its_events_by_index() -> None:
    told = {
        "code": 400,
        "error": "Request contained invalid fields",
        "events_with_invalid_fields": {"user_properties": [3, 7], "time": [7]},
        "events_with_missing_fields": {"user_id": [0]},
        "events_with_invalid_id_lengths": {"device_id": [9]},
        "silenced_events": [11],
    }
    assert batch_judged(400, told) == RefusedSome(
        400,
        "Request contained invalid fields",
        {
            3: "invalid value in user_properties",
            7: "invalid value in user_properties, invalid value in time",
            0: "missing user_id",
            9: "wrong length of device_id",
            11: "silenced",
        },
    )


@pytest.mark.parametrize(
    "told",
    [
        {"code": 400, "error": "Invalid JSON", "missing_field": "events"},
        {"error": "x", "events_with_invalid_fields": {}, "silenced_events": []},
        {"error": "x", "events_with_invalid_fields": [1, 2]},
        {"error": "x", "events_with_invalid_fields": {"time": {"1": 2}}},
        {"error": "x", "events_with_invalid_fields": {"time": ["1", None, -1, 1.0, True, 2**40]}},
        b"bad request",
        b"",
    ],
)
def test_a_refusal_that_names_no_event_is_about_the_whole(told: object) -> None:
    assert isinstance(batch_judged(400, told), Refused)


def test_a_refused_key_stops_a_batch_too() -> None:
    assert batch_judged(400, {"code": 400, "error": f"Invalid API key: {KEY}"}) == Stop(
        '{"code": 400, "error": "Invalid API key: ***"}'
    )


def test_a_throttled_batch_names_who_is_to_wait_and_who_is_out_for_the_day() -> None:
    told = {
        "code": 429,
        "error": "Too many requests for some devices and users",
        "eps_threshold": 1000,
        "throttled_users": {"hot-user": 1234},
        "throttled_devices": ["hot-device"],
        "throttled_events": [4, 5],
        "exceeded_daily_quota_users": {"tired-user": 500_001},
        "exceeded_daily_quota_devices": {},
    }
    assert batch_judged(429, told, Retry_After="7") == SlowDownSome(
        7.0,
        "Too many requests for some devices and users",
        Named(("hot-user",), ("hot-device",), (4, 5)),
        Named(("tired-user",)),
    )


@pytest.mark.parametrize("told", [{"error": "slow"}, {"error": "slow", "throttled_users": 3}, b"slow"])
def test_a_throttling_that_names_nobody_is_meant_for_all(told: object) -> None:
    assert isinstance(batch_judged(429, told), SlowDown)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_what_may_have_been_applied_is_in_no_doubt_over_batch(status: int) -> None:
    assert batch_judged(status, b"oops") == TryAgain(False, f"{status} oops")


@pytest.mark.parametrize(("status", "kind"), [(413, TooBig), (403, Refused), (404, Stop), (503, TryAgain)])
def test_other_answers_mean_what_they_mean_over_identify(status: int, kind: type[Verdict]) -> None:
    assert isinstance(batch_judged(status, {"error": "x"}), kind)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYS = (
    *("error", "events_ingested", "silenced_events", "throttled_events", "throttled_users"),
    *("events_with_invalid_fields", "events_with_missing_fields", "events_with_invalid_id_lengths"),
    *("throttled_devices", "exceeded_daily_quota_users", "exceeded_daily_quota_devices"),
)


@given(st.sampled_from([200, 400, 429, 500]), st.dictionaries(st.sampled_from(_KEYS), _JSON), st.data())
def test_no_answer_of_a_batch_raises_and_none_shows_the_key(
    status: int, told: dict[str, Any], data: st.DataObject
) -> None:
    body = bytearray(json.dumps(told | {KEY: KEY}).encode())
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=3)):
        body[place] = data.draw(st.integers(0, 255))
    verdict = judge_batch(status, {}, bytes(body).replace(KEY[:8].encode(), KEY.encode()), key=KEY)
    assert KEY not in getattr(verdict, "words", "")
    if isinstance(verdict, RefusedSome):
        assert all(
            index >= 0 and KEY not in fault and fault.isprintable() for index, fault in verdict.faults.items()
        )


def test_a_huge_answer_is_read_in_no_time() -> None:
    told = {"error": "x", "events_with_invalid_fields": {f"f{n}": list(range(2000)) for n in range(90)}}
    verdict = batch_judged(400, told)
    assert isinstance(verdict, RefusedSome)
    assert max(map(len, verdict.faults.values())) <= 500
