"""What an answer means depends on its status; its words are short and without the key."""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.amplitude.answers import Named, quote_answer
from etl.amplitude.responses import (
    Accepted,
    KeyRefused,
    Refused,
    RefusedSome,
    Response,
    SlowDown,
    SlowDownSome,
    Stop,
    TryAgain,
    Verdict,
    classify_batch_response,
    classify_response,
    describe,
)
from etl.text import one_line
from tests.examples import each_row, examples

KEY = "0123456789abcdef0123456789abcdef"


def judged(status: int, body: bytes = b"", **headers: str) -> Verdict:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify_response(Response(status, named, body, (KEY,)))


BOM = b"\xef\xbb\xbf"


@each_row(
    "body",
    [
        *(
            b"success",
            b"SUCCESS",
            b' "success"\r\n',
            b"'Success'",
            BOM + b"success",
            b"\n" + BOM + b" success ",
        ),
        *(b'{"code": 200}', b' {"code":200.0,"events_ingested":3}\n', BOM + b'{"code":200}'),
    ],
)
def test_a_200_is_an_acceptance_where_it_says_so(body: bytes) -> None:
    assert judged(200, body) == Accepted()


NO_SUCCESS = [
    *(
        b"",
        b" \n",
        b"ok",
        b"OK",
        b"success!",
        b"no success",
        b"successful",
        b'"success',
        b"suc cess",
        b"\xff\xfe",
    ),
    *(b"<html>Sign in</html>", b"success<br>", b"invalid_api_key", b"missing_event"),
    *(b'{"code":"200"}', b'{"code":true}', b'{"code":201}', b'{"code":400,"error":"x"}', b'{"status":200}'),
    *(b'[{"code":200}]', b'{"code":200', b'{"code":200}}', b'{"error":"x"}', b"{}", b"[]", b"200", b"null"),
    *(gzip.compress(b"success", mtime=0), b"[" * 100_000, "success".encode("utf-16")),
]


@each_row("body", NO_SUCCESS)
def test_any_other_200_is_no_usable_answer(body: bytes) -> None:
    verdict = judged(200, body)
    assert isinstance(verdict, TryAgain)
    assert verdict.in_doubt
    assert verdict.message.startswith("no usable answer: 200 ")


@given(st.binary(max_size=40))
@settings(max_examples=examples(100), deadline=None)
def test_no_noise_is_an_acceptance(noise: bytes) -> None:
    stripped = noise.strip().strip(b"\"'").lower()
    accepted = stripped == b"success" or b'"code"' in noise  # these are not noise
    assert isinstance(judged(200, noise), TryAgain) or accepted


@each_row(
    "body",
    [
        *(b"invalid_api_key", b"Invalid API key", b'"invalid api key."\n', b"INVALID_API_KEY"),
        f"Invalid API key: {KEY}".encode(),
        *(b'{"error":"Invalid API key: x"}', b'{"code":400,"message":"invalid_api_key"}'),
        *(b'{"error":{"code":7,"message":"Invalid API key"}}', b"400 Bad Request\nInvalid API key: abc\n"),
        BOM + b'{"error":"invalid_api_key"}',
    ],
)
def test_a_refused_key_stops_the_run(body: bytes) -> None:
    for judging in (classify_response, classify_batch_response):
        verdict = judging(Response(400, {}, body, (KEY,)))
        assert isinstance(verdict, KeyRefused)
        assert KEY not in verdict.message


@each_row(
    "body",
    [
        b"invalid property value: Ticket: Invalid API key since Monday",
        b"invalid property value: invalid_api_key",
        b'{"error":"invalid value \'Invalid API key\' in plan"}',
        b'{"error":"bad value","value":"Invalid API key"}',
        b'{"error":"bad value","rows":["invalid_api_key"]}',
        b"Invalid API key error!",
        b"Invalid API key: what shall I do?",
        b"<html><body>\nInvalid API key\n</body></html>" * 40,
        b"x" * 600 + b"\ninvalid_api_key",
    ],
)
def test_an_answer_that_only_quotes_the_words_is_about_the_content(body: bytes) -> None:
    for judging in (classify_response, classify_batch_response):
        assert isinstance(judging(Response(400, {}, body, (KEY,))), Refused)


@pytest.mark.parametrize("body", [b"", b"nope", b"<html><title>401</title></html>"])
def test_a_401_is_about_the_key_whatever_it_says(body: bytes) -> None:
    verdict = judged(401, body)
    assert isinstance(verdict, KeyRefused)
    assert verdict.status == 401


@pytest.mark.parametrize("status", [400, 403])
def test_other_refusals_are_about_the_content(status: int) -> None:
    assert judged(status, b"missing_event") == Refused(status, "missing_event")


def test_a_403_is_never_about_the_key() -> None:
    assert isinstance(judged(403, b"invalid_api_key"), Refused)


def test_413_is_too_big() -> None:
    assert judged(413, b"too big") == Refused(413, "too big")


@each_row(
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
        ("Thu, 01 Jan 2026 00:00:40 GMT", 40.0),
        ("Thursday, 01-Jan-26 00:00:40 GMT", 40.0),
        ("Thu Jan  1 00:00:40 2026", 40.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("Thu, 01 Jan 2099 00:00:00 GMT", 3600.0),
        ("Thu, 99 Jan 2026 00:00:40 GMT", None),
    ],
)
@each_row("status", [429, 503])
def test_how_long_to_wait_is_read_as_seconds_or_a_date(
    status: int, header: str, seconds: float | None
) -> None:
    verdict = classify_response(Response(status, {"Retry-After": header}, b"slow", now=1_767_225_600.0))
    assert isinstance(verdict, SlowDown | TryAgain)
    assert verdict.retry_after == seconds
    assert describe(verdict).endswith(f"(Retry-After: {one_line(header)})") == bool(header)


def test_a_date_is_read_against_the_server_s_own_clock() -> None:
    headers = {"Retry-After": "Thu, 01 Jan 2026 00:01:40 GMT", "Date": "Thu, 01 Jan 2026 00:01:30 GMT"}
    verdict = classify_response(Response(429, headers, b"", now=1_767_225_600.0))
    assert isinstance(verdict, SlowDown)
    assert verdict.retry_after == 10.0
    alone = judged(429, Retry_After=headers["Retry-After"])
    assert isinstance(alone, SlowDown)
    assert alone.retry_after is None


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=examples(100), deadline=None)
def test_no_header_raises(retry_after: str, date: str) -> None:
    for status in (302, 429, 503):
        classify_response(
            Response(status, {"Retry-After": retry_after, "Date": date, "Location": date}, b"", now=0.0)
        )


def test_what_is_said_of_a_throttling_has_its_status_and_what_was_asked() -> None:
    empty, full = judged(429), judged(429, b"slow", Retry_After="3600")
    assert isinstance(empty, SlowDown)
    assert isinstance(full, SlowDown)
    assert (describe(empty), describe(full)) == ("429", "429 slow (Retry-After: 3600)")


@pytest.mark.parametrize(
    ("status", "in_doubt"), [(408, False), (503, False), (500, True), (502, True), (504, True)]
)
def test_failures_of_the_server_are_tried_again(status: int, in_doubt: bool) -> None:
    assert judged(status, b"oops") == TryAgain(in_doubt, f"{status} oops", status=status)


@each_row("status", [201, 202, 204, 301, 302, 307, 308, 404, 405, 407])
def test_an_answer_that_amplitude_never_gives_stops_the_run_and_blames_no_key(status: int) -> None:
    verdict = judged(status, b"message")
    assert isinstance(verdict, Stop)
    assert str(status) in verdict.message
    assert "key" not in (verdict.message + verdict.hint).lower()


@each_row(
    ("location", "shown"),
    [
        ("https://login.example.com/in?token=abc#x", "https://login.example.com/in"),
        ("https://me:secret@example.com/", "https://example.com/"),
        ("/identify/", "/identify/"),
        (f"https://example.com/{KEY}", "https://example.com/***"),
        ("https://[bad", ""),
        ("", ""),
    ],
)
def test_a_redirect_says_where_to(location: str, shown: str) -> None:
    verdict = judged(302, Location=location)
    assert isinstance(verdict, Stop)
    assert verdict.message == "unexpected answer 302, a redirect" + (f" to {shown}" if shown else "")


@each_row(
    ("page", "words"),
    [
        (b"<html><head><title>Sign in &amp; go\n on</title>", 'an HTML page titled "Sign in & go on"'),
        (b"<!DOCTYPE html>\n<p>no title", "an HTML page"),
        (b"<HTML><TITLE>" + b"t" * 500 + b"</TITLE>", f'an HTML page titled "{"t" * 100}"'),
        (f"<html><title>{KEY}</title>".encode(), 'an HTML page titled "***"'),
        (b"error: <body>what</body>", "an HTML page"),
        (b"a < b", "a < b"),
        (b"\x1f\x8b\x08\xff\xfe\xfd", "6 unreadable bytes"),
    ],
)
def test_of_a_page_only_the_title_is_quoted(page: bytes, words: str) -> None:
    assert quote_answer(page, KEY) == words


@given(st.text(st.characters(categories=["L", "N", "P"]), min_size=8, max_size=20))
@settings(max_examples=examples(100), deadline=None)
def test_a_secret_is_blotted_out_however_it_is_spelled(secret: str) -> None:
    spellings = (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
    text = " / ".join(spellings)
    assert quote_answer(text.encode(), secret) == one_line("*** / *** / *** / *** / ***")


@given(st.integers(100, 599), st.binary(max_size=3000))
@settings(max_examples=examples(100), deadline=None)
def test_words_are_one_short_line_without_the_key(status: int, noise: bytes) -> None:
    verdict = judged(status, noise[:100] + KEY.encode() + noise[100:])
    words = getattr(verdict, "message", "")
    assert KEY not in words
    assert len(words) <= 540
    assert words == "" or words.isprintable()


def test_the_key_is_blotted_out_before_the_answer_is_cut() -> None:
    for before in (b"x" * 490, b" " * 7990, b"refused" + b"\n" * 7983, b"\x01" * 7990):
        assert KEY[:10] not in quote_answer(before + KEY.encode(), KEY)


def batch_judged(status: int, told: object = None, **headers: str) -> Verdict:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify_batch_response(Response(status, named, body, (KEY,)))


@each_row(
    ("told", "verdict"),
    [
        (
            {"code": 200, "events_ingested": 50, "payload_size_bytes": 1, "server_upload_time": 2},
            Accepted(50),
        ),
        ({"code": 200, "events_ingested": 0}, Accepted(0)),
        ({"code": 200}, Accepted(0, lacks_count=True)),
        *(
            ({"code": 200, "events_ingested": count}, Accepted(0, lacks_count=True))
            for count in ("50", -1, True, 1e3, None)
        ),
    ],
)
def test_a_batch_is_accepted_with_the_count_of_the_answer(told: object, verdict: Accepted) -> None:
    assert batch_judged(200, told) == verdict


@each_row("told", [{"events_ingested": 50}, [50], b"success", *NO_SUCCESS])
def test_a_200_that_is_not_the_object_is_no_usable_answer_over_batch(told: object) -> None:
    verdict = batch_judged(200, told)
    assert isinstance(verdict, TryAgain)
    assert verdict.in_doubt


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


@each_row(
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
    assert type(batch_judged(400, told)) is Refused


def test_a_refused_key_stops_a_batch_too() -> None:
    verdict = batch_judged(400, {"code": 400, "error": f"Invalid API key: {KEY}"})
    assert isinstance(verdict, KeyRefused)
    assert verdict.message == "Invalid API key: ***"


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
        "7",
        throttled=Named(("hot-user",), ("hot-device",), (4, 5)),
        over_quota=Named(("tired-user",)),
    )


@pytest.mark.parametrize("told", [{"error": "slow"}, {"error": "slow", "throttled_users": 3}, b"slow"])
def test_a_throttling_that_names_nobody_is_meant_for_all(told: object) -> None:
    assert type(batch_judged(429, told)) is SlowDown


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_failure_of_the_server_is_the_same_over_both(status: int) -> None:
    assert batch_judged(status, b"oops") == judged(status, b"oops")


@pytest.mark.parametrize(("status", "kind"), [(413, Refused), (403, Refused), (404, Stop), (503, TryAgain)])
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
@settings(max_examples=examples(100), deadline=None)
def test_no_answer_of_a_batch_raises_and_none_shows_the_key(
    status: int, told: dict[str, Any], data: st.DataObject
) -> None:
    body = bytearray(json.dumps(told | {KEY: KEY}).encode())
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=3)):
        body[place] = data.draw(st.integers(0, 255))
    verdict = classify_batch_response(
        Response(status, {}, bytes(body).replace(KEY[:8].encode(), KEY.encode()), (KEY,))
    )
    assert KEY not in getattr(verdict, "message", "")
    if isinstance(verdict, RefusedSome):
        assert all(
            index >= 0 and KEY not in fault and fault.isprintable() for index, fault in verdict.faults.items()
        )


def test_a_huge_answer_is_read_in_no_time() -> None:
    told = {"error": "x", "events_with_invalid_fields": {f"f{n}": list(range(2000)) for n in range(90)}}
    verdict = batch_judged(400, told)
    assert isinstance(verdict, RefusedSome)
    assert max(map(len, verdict.faults.values())) <= 500
