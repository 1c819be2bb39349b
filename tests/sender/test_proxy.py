"""Proxies are read as curl reads them; a password leaves the variable for the proxy and for nowhere else."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping

import aiohttp
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.amplitude.responses import Accepted, Stop, TryAgain, Verdict
from etl.errors import UsageError
from etl.model import Body
from etl.sender.proxy import Proxy, proxy_for, proxy_secrets
from etl.sender.transports import IdentifyTransport
from tests.examples import each_row, examples
from tests.sender.raw_server import Raw, answering, status

QUICK = aiohttp.ClientTimeout(total=2, sock_connect=0.5, sock_read=0.5)
US = "https://api2.amplitude.com"
PLAIN = "http://relay.example"


def found(environ: Mapping[str, str], endpoint: str = US) -> tuple[str, str] | None:
    proxy = proxy_for(endpoint, environ)
    return None if proxy is None else (proxy.variable.removeprefix("the variable "), proxy.url)


@each_row(
    ("environ", "endpoint", "expected"),
    [
        ({}, US, None),
        ({"HTTPS_PROXY": "proxy:3128"}, US, ("HTTPS_PROXY", "http://proxy:3128")),
        ({"HTTPS_PROXY": "proxy:3128"}, PLAIN, None),
        ({"https_proxy": "http://proxy"}, US, ("https_proxy", "http://proxy:80")),
        ({"https_proxy": "HTTP://proxy:1/"}, US, ("https_proxy", "http://proxy:1")),
        ({"https_proxy": "a:1", "HTTPS_PROXY": "b:2", "ALL_PROXY": "c:3"}, US, ("https_proxy", "http://a:1")),
        ({"https_proxy": "", "HTTPS_PROXY": "b:2"}, US, ("HTTPS_PROXY", "http://b:2")),
        ({"HTTPS_PROXY": " ", "ALL_PROXY": "c:3"}, US, ("ALL_PROXY", "http://c:3")),
        ({"all_proxy": "c:3"}, PLAIN, ("all_proxy", "http://c:3")),
        ({"HTTP_PROXY": "d:4"}, PLAIN, ("HTTP_PROXY", "http://d:4")),
        ({"HTTP_PROXY": "d:4", "REQUEST_METHOD": "GET"}, PLAIN, None),
        ({"HTTP_PROXY": "d:4"}, US, None),
        ({"HTTPS_PROXY": "[::1]:3128"}, US, ("HTTPS_PROXY", "http://[::1]:3128")),
        ({"HTTPS_PROXY": "bob:pw@proxy:3128"}, US, ("HTTPS_PROXY", "http://proxy:3128")),
        ({"HTTPS_PROXY": "http://bob:p@s/s#w?d:@proxy:3128/"}, US, ("HTTPS_PROXY", "http://proxy:3128")),
    ],
)
def test_the_proxy_is_the_one_that_is_meant(
    environ: dict[str, str], endpoint: str, expected: tuple[str, str] | None
) -> None:
    assert found(environ, endpoint) == expected


@each_row(
    ("exempt", "endpoint", "goes_directly"),
    [
        ("*", US, True),
        ("amplitude.com", US, True),
        (".amplitude.com", US, True),
        ("*.amplitude.com", US, True),
        ("localhost, api2.amplitude.com", US, True),
        ("localhost api2.amplitude.com:443", US, True),
        ("API2.AMPLITUDE.COM", US, True),
        ("api2.amplitude.com:80", US, False),
        ("plitude.com", US, False),
        ("eu.amplitude.com", US, False),
        ("10.0.0.0/8", "http://10.1.2.3:8080", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.1.2.3:8080", "http://10.1.2.3:8080", True),
        ("fd00::/8", "http://[fd00::1]:80", True),
        ("", US, False),
    ],
)
@each_row("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_lets_hosts_go_directly(name: str, exempt: str, endpoint: str, goes_directly: bool) -> None:
    assert (found({"ALL_PROXY": "proxy:1", name: exempt}, endpoint) is None) == goes_directly


@each_row(
    "value",
    [
        *(
            "https://bob:s3cretpw@proxy:3128",
            "socks5://bob:s3cretpw@proxy:1080",
            "SOCKS5h://proxy:1",
            "ftp://x:1",
        ),
        *(
            "bob:s3cretpw@proxy",
            "proxy",
            "proxy:",
            "http://proxy:",
            "proxy:0",
            "proxy:65536",
            "proxy:s3cretpw",
        ),
        *("http://proxy:80x", "http://bob:s3cretpw@", "http://", "bob:s3cretpw@:3128", "s3cretpw://proxy:1"),
        *(
            "ftp://x:1",
            "http://pro xy:1",
            "http://[::1:3128",
            "proxy:1:2",
            "http://proxy:-1",
            "http://proxy:999999",
        ),
    ],
)
@each_row("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"the variable {name} ") as caught:
        identify_to(US, {name: value})
    assert "s3cretpw" not in str(caught.value)
    assert int(caught.value.exit_code) == 2


def identify_to(endpoint: str, environ: Mapping[str, str]) -> IdentifyTransport:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        return IdentifyTransport(endpoint, "key", connections=1, timeout=QUICK, allow_http=True)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip))
@settings(max_examples=examples(100), deadline=None)
def test_whatever_stands_in_a_variable_nothing_of_it_is_shown(value: str) -> None:
    proxy = proxy_for(US, {"HTTPS_PROXY": f"http://bob:{value}@proxy:3128"})
    assert proxy is not None
    assert proxy.url == "http://proxy:3128"
    assert "login" not in repr(proxy)
    assert "secrets" not in repr(proxy)


def test_the_system_s_setting_counts_where_no_variable_is_set() -> None:
    system = {"https": "http://proxy:8"}
    assert proxy_for(US, {}, system) == Proxy("the system's proxy setting", "http://proxy:8")
    assert found({"ALL_PROXY": "other:9"}) == ("ALL_PROXY", "http://other:9")


def test_secrets_are_known_for_blotting_out() -> None:
    environ = {"HTTPS_PROXY": "http://bob:s3cretpw@proxy:1", "Http_Proxy": "tim:otherpw@x:2", "PATH": "a:b@c"}
    assert {"s3cretpw", "otherpw"} <= proxy_secrets(environ)
    assert "b" not in proxy_secrets(environ)


# --- over the wire ---------------------------------------------------------------------------------------


def sent_through(proxy: Raw, variable: str, value: str, endpoint: str = PLAIN) -> Verdict:
    async def ask() -> Verdict:
        async with answering(proxy):
            there = proxy.url.removeprefix("http://")
            identify = identify_to(endpoint, {variable: value.format(there)})
            async with identify:
                return await identify.post(await identify.pack((b"[]",)))

    return asyncio.run(ask())


@pytest.mark.parametrize("value", ["{}", "http://{}", "http://bob:s3%20cret@{}", "bob:s3%20cret@{}"])
def test_a_plain_request_goes_through_the_proxy_with_its_login(value: str) -> None:
    proxy = Raw()
    assert sent_through(proxy, "http_proxy", value) == Accepted()
    head = proxy.requests[0].partition(b"\r\n\r\n")[0]
    assert head.startswith(b"POST http://relay.example/identify HTTP/1.1")
    login = b"Basic " + base64.b64encode(b"bob:s3 cret")
    assert (login in head) == ("bob" in value)


def test_a_tunnel_is_asked_for_with_the_login_and_nothing_of_the_request() -> None:
    proxy = Raw(status("502 Bad Gateway"))
    verdict = sent_through(proxy, "HTTPS_PROXY", "bob:s3cretpw@{}", US)
    assert proxy.requests[0].startswith(b"CONNECT api2.amplitude.com:443 HTTP/1.1")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"bob:s3cretpw") in proxy.requests[0]
    words = "no connection to api2.amplitude.com: the proxy of the variable HTTPS_PROXY answered 502"
    assert verdict == TryAgain(False, words, unsent=True)


@pytest.mark.parametrize(("variable", "endpoint"), [("HTTP_PROXY", PLAIN), ("HTTPS_PROXY", US)])
def test_a_proxy_that_asks_for_a_login_stops_the_run_and_is_named(variable: str, endpoint: str) -> None:
    verdict = sent_through(Raw(status("407 Who", b"bob:s3cretpw?")), variable, "bob:s3cretpw@{}", endpoint)
    assert type(verdict) is Stop
    assert variable in verdict.message
    assert "407" in verdict.message
    assert "s3cretpw" not in repr(verdict)
    assert "key" not in (verdict.message + verdict.hint).lower()


def test_a_proxy_that_repeats_the_password_is_not_quoted() -> None:
    login = base64.b64encode(b"bob:s3cret/pw").decode()
    page = f"no access for bob:s3cret/pw, s3cret%2Fpw ({login})"
    verdict = sent_through(Raw(status("503 No", page.encode())), "HTTP_PROXY", "bob:s3cret%2Fpw@{}")
    assert isinstance(verdict, TryAgain)
    assert "s3cret" not in verdict.message
    assert login not in verdict.message


def test_a_proxy_that_is_away_leaves_nothing_sent() -> None:
    identify = identify_to(US, {"HTTPS_PROXY": "bob:s3cretpw@127.0.0.1:9"})

    async def ask() -> Verdict:
        async with identify:
            return await identify.post((b"x",))

    words = "no connection to the proxy 127.0.0.1:9 of the variable HTTPS_PROXY: connection refused"
    assert asyncio.run(ask()) == TryAgain(False, words, unsent=True)


def test_this_machine_needs_no_proxy() -> None:
    assert identify_to("http://127.0.0.1:1", {"HTTP_PROXY": "socks5://proxy:1"})


def test_a_request_through_a_tunnel_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that connects, and a destination with TLS behind it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("relay.example").configure_cert(server)
    authority.configure_trust(client)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", client)
    raw, heads = Raw(), list[bytes]()

    async def ask() -> Verdict:
        async with answering(raw, server):

            async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                there = await asyncio.open_connection("127.0.0.1", int(raw.url.rpartition(":")[2]))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(carried(reader, there[1]), carried(there[0], writer))

            proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
            async with proxy:
                port = proxy.sockets[0].getsockname()[1]
                variables = {"HTTPS_PROXY": f"bob:s3cretpw@127.0.0.1:{port}"}
                identify = identify_to("https://relay.example", variables)
                async with identify:
                    return await identify.post(await identify.pack((b"[]",)))

    assert asyncio.run(ask()) == Accepted()
    assert b"Proxy-Authorization" in heads[0]
    assert b"roxy" not in raw.requests[0]


async def carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


def test_no_login_of_the_netrc_file_is_sent(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    netrc = Path(str(tmp_path)) / "netrc"
    netrc.write_text("machine 127.0.0.1 login bob password s3cretpw\ndefault login bob password s3cretpw\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    raw, proxy = Raw(), Raw()

    async def ask() -> None:
        async with answering(raw):
            body: Body = (b"x",)
            async with IdentifyTransport(raw.url, "key", connections=1, timeout=QUICK) as identify:
                await identify.post(body)

    asyncio.run(ask())
    sent_through(proxy, "HTTP_PROXY", "{}")
    for request in (raw.requests[0], proxy.requests[0]):
        assert b"uthorization" not in request
