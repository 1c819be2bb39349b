from __future__ import annotations

import gzip
import json
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox.api_rules import RequestRefusedError
from etl.sandbox.endpoints import unpack
from etl.sandbox.event_endpoint import parse_upload
from tests.examples import each_row

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "application/json"
GOOD = {"api_key": "abc", "events": [{"event_type": "x"}]}


def refused(act: Callable[[], object]) -> RequestRefusedError:
    with pytest.raises(RequestRefusedError) as caught:
        act()
    return caught.value


@given(st.text(max_size=200), st.integers(0, 3), st.sampled_from(["gzip", " GZIP "]))
def test_a_gzipped_body_is_what_it_was_in_one_member_or_in_several(
    text: str, cuts: int, encoding: str
) -> None:
    body = text.encode()
    size = len(body) // (cuts + 1) + 1
    zipped = b"".join(gzip.compress(body[at : at + size]) for at in range(0, len(body) + 1, size))
    assert unpack(zipped, encoding, 1000) == text
    assert unpack(body, "", 1000) == text


def test_the_limit_counts_unpacked_bytes_and_holds_to_the_byte() -> None:
    plain, zipped, halves = b"x" * 1000, gzip.compress(b"x" * 1000), gzip.compress(b"x" * 500) * 2
    for body, encoding in ((plain, ""), (zipped, "gzip"), (halves, "gzip")):
        assert len(unpack(body, encoding, 1000)) == 1000
        assert refused(partial(unpack, body, encoding, 999)).status == 413


def test_a_bomb_is_never_unpacked_beyond_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    tracemalloc.start()
    try:
        assert refused(lambda: unpack(bomb, "gzip", 1_000_000)).status == 413
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"plain", "gzip"),
        (gzip.compress(b"whole", mtime=0)[:-4], "gzip"),
        (gzip.compress(b"whole", mtime=0) + b"rest", "gzip"),
        (b"x", "br"),
        (b"\xff", ""),
    ],
    ids=["plain", "cut", "followed", "brotli", "latin-1"],
)
def test_what_cant_be_unpacked_is_a_bad_request(body: bytes, encoding: str) -> None:
    assert refused(lambda: unpack(body, encoding, 1000)).status == 400


def test_an_upload_has_its_key_its_events_and_the_shortest_id() -> None:
    plain = parse_upload(json.dumps(GOOD), JSON)
    assert (plain.api_key, plain.identifications, plain.min_id_length) == ("abc", GOOD["events"], 5)
    assert parse_upload(json.dumps({**GOOD, "options": {"min_id_length": 1}}), JSON).min_id_length == 1
    assert parse_upload(json.dumps({**GOOD, "options": {}}), JSON).min_id_length == 5


@pytest.mark.parametrize("field", ["api_key", "events"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_or_empty_field_is_named(field: str, empty: bool) -> None:
    fields = {**GOOD, field: None} if empty else {name: v for name, v in GOOD.items() if name != field}
    error = refused(lambda: parse_upload(json.dumps(fields), JSON))
    assert (error.status, error.details) == (400, {"missing_field": field})


@each_row(
    ("text", "content_type"),
    [
        (json.dumps(GOOD), "text/plain"),
        ("[]", JSON),
        ('{"api_key"', JSON),
        ('{"api_key":"abc","events":[{"a":NaN}]}', JSON),
        (json.dumps({**GOOD, "api_key": 3}), JSON),
        (json.dumps({**GOOD, "events": {"a": 1}}), JSON),
        (json.dumps({**GOOD, "events": ["a"]}), JSON),
        (json.dumps({**GOOD, "options": [1]}), JSON),
        *[(json.dumps({**GOOD, "options": {"min_id_length": bad}}), JSON) for bad in (0, "5", True, None)],
    ],
)
def test_what_isnt_an_upload_is_a_bad_request(text: str, content_type: str) -> None:
    assert refused(lambda: parse_upload(text, content_type)).status == 400
