"""Whatever comes over the wire, and whatever doesn't, ends in a verdict; the key stays in the body."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import parse_qs

import aiohttp
import pytest
import trustme

from etl.amplitude import Accepted, Refused, SlowDown, Stop, TooBig, TryAgain, Verdict
from etl.errors import DestinationError, UsageError
from etl.sender.identify import Identify
from tests.sender.answering import Raw, answering, status

KEY = "k+e&y=0123456789"
BODY = b'[{"user_id":"user-1"}]'
QUICK = aiohttp.ClientTimeout(total=2, sock_connect=0.3, sock_read=0.3)


async def post_to(url: str, *, allow_http: bool = False, body: bytes = BODY) -> Verdict:
    async with Identify(url, KEY, connections=2, timeout=QUICK, allow_http=allow_http) as identify:
        return await identify.post(await identify.pack((body,)))


def verdict_on(raw: Raw) -> Verdict:
    async def ask() -> Verdict:
        async with answering(raw):
            return await post_to(raw.url)

    return asyncio.run(ask())


def test_the_request_is_a_form_with_key_and_identifications() -> None:
    raw = Raw()
    assert verdict_on(raw) == Accepted()
    head, _, body = raw.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /identify HTTP/1.1")
    assert b"content-type: application/x-www-form-urlencoded" in head.lower()
    assert parse_qs(body.decode(), strict_parsing=True) == {
        "api_key": [KEY],
        "identification": [BODY.decode()],
    }
    assert KEY.encode() not in head


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (status("200 OK", b"success"), Accepted()),
        (status("400 Bad Request", b"missing_event"), Refused(400, "missing_event")),
        (status("403 Forbidden", b"blocked"), Refused(403, "blocked")),
        (status("413 Too Big"), TooBig("")),
        (status("429 Slow", b"slow", "Retry-After: 7"), SlowDown(7.0, "slow")),
        (status("503 Away", b"away"), TryAgain(False, "503 away")),
        (status("500 Oops"), TryAgain(True, "500")),
        (status("400 Bad", f"Invalid API key: {KEY}".encode()), Stop("Invalid API key: ***")),
        (status("302 Found", b"", "Location: http://127.0.0.1:9/"), Stop("unexpected answer 302")),
        (
            status("200 OK", b"<html>please log in</html>"),
            TryAgain(True, "a web page: <html>please log in</html>"),
        ),
    ],
)
def test_answers_are_judged(answer: bytes, verdict: Verdict) -> None:
    assert verdict_on(Raw(answer)) == verdict


@pytest.mark.parametrize(
    "raw",
    [
        Raw(b""),
        Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\nsucc"),
        Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        Raw(b"nonsense\r\n\r\n"),
        Raw(b"\xff" * 3000),
        Raw(hold=30.0),
        Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX: " + b"y" * 70_000 + b"\r\n\r\nsuccess"),
    ],
    ids=["closed", "truncated", "bad chunk", "not http", "rubbish", "stalled", "huge header"],
)
def test_a_lost_or_broken_answer_leaves_the_outcome_open(raw: Raw) -> None:
    verdict = verdict_on(raw)
    assert isinstance(verdict, TryAgain)
    assert verdict.in_doubt
    assert KEY not in verdict.words
    assert 0 < len(verdict.words) < 600


def test_an_endless_answer_is_cut_off() -> None:
    raw = Raw(
        b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", endless=b"400\r\n" + b"z" * 1024 + b"\r\n"
    )
    verdict = verdict_on(raw)
    assert isinstance(verdict, TryAgain)
    assert len(verdict.words) <= 600


def test_a_refused_connection_leaves_nothing_open() -> None:
    verdict = asyncio.run(post_to("http://127.0.0.1:9"))
    assert isinstance(verdict, TryAgain)
    assert not verdict.in_doubt


def test_a_name_that_can_t_be_resolved_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: object, **__: object) -> list[object]:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    verdict = asyncio.run(post_to("https://amplitude.invalid"))
    assert isinstance(verdict, TryAgain)
    assert not verdict.in_doubt
    assert "amplitude.invalid" in verdict.words


def test_a_wrong_certificate_is_no_outage() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def ask() -> Verdict:
        async with answering(Raw(), context) as raw:
            return await post_to(raw.url)

    with pytest.raises(DestinationError, match="no safe connection") as caught:
        asyncio.run(ask())
    assert "certificate" in str(caught.value)


def test_no_tls_at_the_other_end_is_no_outage_either() -> None:
    async def ask() -> Verdict:
        async with answering(Raw(greeting=status("400 Bad Request"))) as raw:
            return await post_to(raw.url.replace("http:", "https:"))

    with pytest.raises(DestinationError, match="no safe connection"):
        asyncio.run(ask())


@pytest.mark.parametrize("url", ["http://example.com", "http://10.0.0.1:80"])
def test_plain_http_to_another_machine_is_refused_unless_told(url: str) -> None:
    with pytest.raises(UsageError, match="in the clear"):
        Identify(url, KEY, connections=1)
    Identify(url, KEY, connections=1, allow_http=True)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "api2.amplitude.com", ""])
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no base URL"):
        Identify(url, KEY, connections=1)


def test_the_environment_s_proxy_is_used_for_other_machines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> Verdict:
        async with answering(Raw()) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            verdict = await post_to("http://amplitude.invalid", allow_http=True)
            assert proxy.requests[0].startswith(b"POST http://amplitude.invalid/identify HTTP/1.1")
            async with answering(Raw()) as local:
                await post_to(local.url)
                assert len(local.requests) == 1
            assert len(proxy.requests) == 1
            return verdict

    assert asyncio.run(ask()) == Accepted()


def test_what_is_packed_is_the_request_body() -> None:
    raw = Raw()
    verdict_on(raw)
    packed = asyncio.run(Identify("http://127.0.0.1", KEY, connections=1).pack((BODY,)))
    assert b"".join(packed) == raw.requests[0].partition(b"\r\n\r\n")[2]
