"""Whatever comes over the wire, and whatever doesn't, ends in a verdict; the key stays in the body."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import Callable
from urllib.parse import parse_qs

import aiohttp
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.amplitude.responses import (
    Accepted,
    KeyRefused,
    Refused,
    Response,
    SlowDown,
    Stop,
    TryAgain,
    Verdict,
)
from etl.errors import DestinationError, UsageError
from etl.sender.http import Answer, HttpSession, decompressed
from etl.sender.transports import IdentifyTransport
from tests.examples import each_row, examples
from tests.sender.raw_server import Raw, answering, status

KEY = "k+e&y=0123456789"
BODY = b'[{"user_id":"user-1"}]'
QUICK = aiohttp.ClientTimeout(total=2, sock_connect=0.3, sock_read=0.3)


async def post_to(url: str, *, allow_http: bool = False, body: bytes = BODY) -> Verdict:
    async with IdentifyTransport(url, KEY, connections=2, timeout=QUICK, allow_http=allow_http) as identify:
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


@each_row(
    ("answer", "verdict"),
    [
        (status("200 OK", b"success"), Accepted()),
        (status("400 Bad Request", b"missing_event"), Refused(400, "missing_event")),
        (status("403 Forbidden", b"blocked"), Refused(403, "blocked")),
        (status("413 Too Big"), Refused(413, "")),
        (status("429 Slow", b"slow", "Retry-After: 7"), SlowDown(7.0, "slow", "7")),
        (status("503 Away", b"away"), TryAgain(False, "503 away", status=503)),
        (status("500 Oops"), TryAgain(True, "500", status=500)),
        (
            status("200 OK", b"<html>please log in</html>"),
            TryAgain(True, "no usable answer: 200 with an HTML page", status=200),
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
    assert KEY not in verdict.message
    assert 0 < len(verdict.message) < 600


def test_an_endless_answer_is_cut_off() -> None:
    raw = Raw(
        b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", endless=b"400\r\n" + b"z" * 1024 + b"\r\n"
    )
    verdict = verdict_on(raw)
    assert isinstance(verdict, TryAgain)
    assert len(verdict.message) <= 600


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
    assert "amplitude.invalid" in verdict.message


def test_a_wrong_certificate_is_no_outage() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def ask() -> Verdict:
        async with answering(Raw(), context) as raw:
            return await post_to(raw.url)

    with pytest.raises(DestinationError, match="no safe connection") as caught:
        asyncio.run(ask())
    assert "its certificate is not valid: unable to get local issuer certificate" in caught.value.message
    assert "SSL_CERT_FILE" in (caught.value.hint or "")


def test_no_tls_at_the_other_end_is_tried_again() -> None:
    async def ask() -> Verdict:
        async with answering(Raw(greeting=status("400 Bad Request"))) as raw:
            return await post_to(raw.url.replace("http:", "https:"))

    verdict = asyncio.run(ask())
    assert isinstance(verdict, TryAgain)
    assert verdict.unsent
    assert not verdict.in_doubt
    assert verdict.message == "no connection to 127.0.0.1: the TLS handshake failed: wrong version number"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (status("400 Bad", f"Invalid API key: {KEY}".encode()), KeyRefused, "Invalid API key: ***"),
        (status("401 Who"), KeyRefused, ""),
        (
            status("302 Found", b"", "Location: http://u:p@127.0.0.1:9/x?y"),
            Stop,
            "unexpected answer 302, a redirect to http://127.0.0.1:9/x",
        ),
        (status("404 Not Found", b"nothing"), Stop, "unexpected answer 404 nothing"),
    ],
)
def test_what_ends_a_run_says_why(answer: bytes, kind: type[Stop], words: str) -> None:
    verdict = verdict_on(Raw(answer))
    assert type(verdict) is kind
    assert verdict.message == words


def test_nothing_compressed_is_asked_for() -> None:
    raw = Raw()
    verdict_on(raw)
    assert b"\r\naccept-encoding: identity\r\n" in raw.requests[0].lower()


def raw_deflate(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


@pytest.mark.parametrize(
    ("pack", "encoding"),
    [
        (gzip.compress, "gzip"),
        (gzip.compress, "X-GZip, identity"),
        (zlib.compress, "deflate"),
        (raw_deflate, "deflate"),
        (lambda text: gzip.compress(zlib.compress(text)), "deflate, gzip"),
        (lambda text: gzip.compress(text[:3]) + gzip.compress(text[3:]), "gzip"),
    ],
)
def test_an_answer_that_comes_compressed_is_read(pack: Callable[[bytes], bytes], encoding: str) -> None:
    def of(line: str, text: bytes) -> Verdict:
        return verdict_on(Raw(status(line, pack(text), f"Content-Encoding: {encoding}")))

    assert of("200 OK", b"success") == Accepted()
    assert isinstance(of("200 OK", b"<html>Sign in</html>"), TryAgain)
    assert isinstance(of("400 Bad", b"invalid_api_key"), KeyRefused)
    assert of("400 Bad", b"missing_event") == Refused(400, "missing_event")
    assert of("429 Slow", b"slow") == SlowDown(None, "slow")


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"success", "gzip"),
        (gzip.compress(b"success", mtime=0)[:-9], "gzip"),
        (gzip.compress(b"success", mtime=0), "br"),
        (gzip.compress(b"success", mtime=0), "gzip, gzip, gzip, gzip, gzip"),
        (gzip.compress(b"success", mtime=0)[:12] + b"rubbish", "deflate"),
    ],
)
def test_a_200_that_cannot_be_unpacked_is_no_usable_answer(body: bytes, encoding: str) -> None:
    verdict = verdict_on(Raw(status("200 OK", body, f"Content-Encoding: {encoding}")))
    assert isinstance(verdict, TryAgain)
    assert verdict.in_doubt
    assert verdict.message.startswith("no usable answer: 200 ")


def test_what_cannot_be_unpacked_is_quoted_as_it_is() -> None:
    refused = verdict_on(Raw(status("400 Bad", b"missing_event", "Content-Encoding: gzip")))
    assert refused == Refused(400, "missing_event")


def test_a_refusal_in_gzip_is_read_though_no_header_says_so() -> None:
    assert isinstance(verdict_on(Raw(status("400 Bad", gzip.compress(b"invalid_api_key")))), KeyRefused)
    assert isinstance(verdict_on(Raw(status("200 OK", gzip.compress(b"success", mtime=0)))), TryAgain)


def test_an_answer_that_unpacks_without_end_is_bounded() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 50_000_000))
    verdict = verdict_on(Raw(status("500 Oops", bomb, "Content-Encoding: gzip", "Content-Encoding: gzip")))
    assert isinstance(verdict, TryAgain)


@pytest.mark.parametrize("encodings", [["gzip"], ["deflate"], ["gzip, deflate"], ["identity", ""]])
@given(st.binary(max_size=200))
@settings(max_examples=examples(30))
def test_unpacking_noise_never_raises_nor_grows(encodings: list[str], noise: bytes) -> None:
    found = decompressed(gzip.compress(noise) + noise, encodings, 1000)
    assert found is None or len(found) <= 1000


@pytest.mark.parametrize("url", ["http://example.com", "http://10.0.0.1:80"])
def test_plain_http_to_another_machine_is_refused_unless_told(url: str) -> None:
    with pytest.raises(UsageError, match="in the clear"):
        IdentifyTransport(url, KEY, connections=1)
    IdentifyTransport(url, KEY, connections=1, allow_http=True)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "api2.amplitude.com", ""])
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not a base URL"):
        IdentifyTransport(url, KEY, connections=1)


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
    packed = asyncio.run(IdentifyTransport("http://127.0.0.1", KEY, connections=1).pack((BODY,)))
    assert b"".join(packed) == raw.requests[0].partition(b"\r\n\r\n")[2]


def test_a_session_asks_with_get_and_another_key_too() -> None:
    """Not only transports use it: another endpoint, another key, another method."""

    async def ask(raw: Raw) -> Answer:
        async with (
            answering(raw),
            HttpSession(raw.url, connections=1, secrets=("s3cret-key",), timeout=QUICK) as session,
        ):
            return await session.request(
                "GET", "/1/userprofile?user_id=1", headers={"Authorization": "s3cret-key"}
            )

    raw = Raw(status("200 OK", b'{"userData": {}}'))
    found = asyncio.run(ask(raw))
    assert isinstance(found, Response)
    assert (found.status, found.body) == (200, b'{"userData": {}}')
    assert raw.requests[0].startswith(b"GET /1/userprofile?user_id=1 HTTP/1.1")
    assert b"Authorization: s3cret-key" in raw.requests[0]
    assert "s3cret-key" not in repr(found)
    lost = asyncio.run(ask(Raw(b"")))
    assert isinstance(lost, TryAgain)
    assert "s3cret-key" not in lost.message
