"""The Batch API on the wire: gzipped JSON, the same bytes for the same body, and answers that may be long."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib

import aiohttp
import pytest

from etl.amplitude.responses import Accepted, KeyRefused, RefusedSome, SlowDownSome, TryAgain, Verdict
from etl.model import Body
from etl.sender import transports as module
from etl.sender.transports import BatchTransport, HttpTransport, IdentifyTransport
from tests.sender.raw_server import Raw, answering, status

KEY = 'k"é\\y=0123456789'
BODY = '[{"event_type":"$identify","insert_id":"0a","user_id":"usér-1"}]'.encode()
QUICK = aiohttp.ClientTimeout(total=2, sock_connect=0.3, sock_read=0.3)


def batch_to(url: str) -> BatchTransport:
    return BatchTransport(url, KEY, connections=2, timeout=QUICK)


def verdict_on(raw: Raw) -> Verdict:
    async def ask() -> Verdict:
        async with answering(raw), batch_to(raw.url) as batch:
            return await batch.post(await batch.pack((BODY,)))

    return asyncio.run(ask())


def test_the_request_is_gzipped_json_with_key_and_events() -> None:
    raw = Raw(status("200 OK", b'{"code":200,"events_ingested":1}', "Content-Type: application/json"))
    assert verdict_on(raw) == Accepted(1)
    head, _, body = raw.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /batch HTTP/1.1")
    assert b"content-type: application/json" in head.lower()
    assert b"content-encoding: gzip" in head.lower()
    assert json.loads(gzip.decompress(body)) == {"api_key": KEY, "events": json.loads(BODY)}
    assert b"0123456789" not in head


def test_the_same_body_is_packed_to_the_same_bytes() -> None:
    async def packed() -> set[bytes]:
        batch = batch_to("http://127.0.0.1:1")
        return {b"".join(await batch.pack((BODY * 1000,))) for _ in range(5)}

    assert len(asyncio.run(packed())) == 1


def test_packing_leaves_the_event_loop_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    packing = module.gzip

    def noted(pieces: Body) -> bytes:
        threads.append(threading.get_ident())
        return packing(pieces)

    monkeypatch.setattr(module, "gzip", noted)
    asyncio.run(batch_to("http://127.0.0.1:1").pack((BODY,)))
    assert threads
    assert threads != [threading.get_ident()]


def test_without_the_fast_library_the_standard_one_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "deflate", zlib)
    assert gzip.decompress(module.gzip((b"[", BODY, b"]"))) == b"[" + BODY + b"]"


@pytest.mark.parametrize("raw", [Raw(b""), Raw(hold=30.0), Raw(status("200 OK", b"<html>log in</html>"))])
def test_a_lost_answer_leaves_the_outcome_open(raw: Raw) -> None:
    verdict = verdict_on(raw)
    assert isinstance(verdict, TryAgain)
    assert verdict.in_doubt


@pytest.mark.parametrize("transport", [IdentifyTransport, BatchTransport])
def test_a_status_that_is_trusted_needs_no_words_and_others_mean_the_same(
    transport: type[HttpTransport],
) -> None:
    async def ask(answer: bytes, *, trust_status: bool) -> Verdict:
        async with (
            answering(Raw(answer)) as raw,
            transport(raw.url, KEY, connections=2, timeout=QUICK, trust_status=trust_status) as way,
        ):
            return await way.post((BODY,))

    for line in ("200 OK", "201 Made", "202 Queued"):
        for body in (b"", b"queued", b"<html>", b'{"code":400}'):
            assert asyncio.run(ask(status(line, body), trust_status=True)) == Accepted()
    for line in ("302 Found", "400 Bad", "401 Who", "404 Not Found", "413 Big", "429 Slow", "500 Oops"):
        trusting, other = (asyncio.run(ask(status(line, b"x"), trust_status=one)) for one in (True, False))
        assert trusting == other


def test_an_answer_that_names_everyone_is_read_whole() -> None:
    told = {
        "code": 429,
        "error": "slow",
        "throttled_users": {f"user-{n:032d}": 1001 for n in range(2000)},
        "throttled_events": list(range(2000)),
    }
    verdict = verdict_on(Raw(status("429 Slow", json.dumps(told).encode(), "Retry-After: 3")))
    assert isinstance(verdict, SlowDownSome)
    assert len(verdict.throttled.users) == len(verdict.throttled.indexes) == 2000


def test_answers_name_events_or_the_key() -> None:
    told = {"code": 400, "error": "bad", "events_with_invalid_fields": {"time": [0]}}
    bad = verdict_on(Raw(status("400 Bad", json.dumps(told).encode())))
    assert bad == RefusedSome(400, "bad", {0: "invalid value in time"})
    key = verdict_on(Raw(status("400 Bad", json.dumps({"error": f"Invalid API key: {KEY}"}).encode())))
    assert isinstance(key, KeyRefused)
    assert "0123456789" not in key.message
