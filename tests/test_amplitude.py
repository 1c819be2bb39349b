"""What an answer means depends on its status; its words are short and without the key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.amplitude import Accepted, Refused, SlowDown, Stop, TooBig, TryAgain, Verdict, judge, quote_answer

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
