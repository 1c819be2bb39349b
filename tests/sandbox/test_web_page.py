"""The page of the sandbox, over HTTP: what it shows, what its forms do, and that nothing in it is alive."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import quote, urlencode

import pytest

from etl.sandbox import Sandbox, SandboxOptions, parse_fault, running_sandbox
from etl.sandbox.profiles import property_changes
from etl.sandbox.web_page import ASSETS
from tests.examples import each_row
from tests.sandbox.client import call

HOSTILE = (
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "{{ 7777 * 7777 }}",
    "\u202egnp.exe",
    "\u05d0\u05d1\u05d2 \u05d3\u05d4",
    "</bdi></td></table><h1>x",
    "&amp;&lt;",
    "tab\tline\nend\x00",
    "x" * 1000,
)
_VOID = {"meta", "link", "input", "br", "img"}
_BLOCKS = {"td", "th", "dt", "dd", "li", "p", "h1", "h2", "h3"}


class Page(HTMLParser):
    """A page as a browser reads it: its text, its elements, and that all are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in _BLOCKS:
            self.words.append(" ")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def send(sandbox: Sandbox, *identifications: Mapping[str, object]) -> None:
    form = urlencode({"api_key": "any", "identification": json.dumps(identifications)}).encode()
    urllib.request.urlopen(f"{sandbox.url}/identify", data=form, timeout=10).close()


def get(sandbox: Sandbox, path: str = "/", *, status: int = 200) -> Page:
    return fetched(urllib.request.Request(sandbox.url + path), status)


def post(sandbox: Sandbox, *form: tuple[str, str], status: int = 200, **headers: str) -> Page:
    request = urllib.request.Request(f"{sandbox.url}/faults", urlencode(form).encode(), headers)
    return fetched(request, status)


def fetched(request: urllib.request.Request, status: int) -> Page:
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            code, html, policy = answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        code, html, policy = error.code, error.read().decode(), error.headers
    assert code == status
    assert policy["Content-Security-Policy"].startswith("default-src 'self';")
    return Page(html)


def test_a_profile_shows_values_types_and_how_they_changed(sandbox: Sandbox) -> None:
    send(sandbox, {"user_id": "user-1", "user_properties": {"plan": "free", "n": 1, "gone": True}})
    send(
        sandbox,
        {
            "user_id": "user-1",
            "country": "France",
            "groups": {"org": "Acme"},
            "user_properties": {"$set": {"plan": "pro"}, "$add": {"n": 2}, "$unset": {"gone": "-"}},
        },
    )
    text = get(sandbox, "/user?id=user-1").text
    assert "plan pro text $set" in text
    assert "n 3 number $add" in text
    assert "2 changes" in text
    assert ": free" in text
    assert "Removed gone: $unset" in text
    assert 'Groups org ["Acme"]' in text
    assert "country France" in text


def test_an_equal_value_is_no_change_but_another_type_is(sandbox: Sandbox) -> None:
    for value in (1, 1, True):
        send(sandbox, {"user_id": "user-1", "user_properties": {"a": value}})
    profile = sandbox.profiles.users["user-1"]
    changes = property_changes(profile.updates, profile.properties)["a"]
    assert [change.value for change in changes] == [True, 1]


def test_clear_all_and_a_device_that_gets_a_user_are_in_the_history(sandbox: Sandbox) -> None:
    send(sandbox, {"device_id": "device-1", "user_properties": {"a": 1}})
    assert "a 1 number $set" in get(sandbox, "/user?device=device-1").text
    send(sandbox, {"device_id": "device-1", "user_id": "user-1"})
    assert "a 1 number $set" in get(sandbox, "/user?id=user-1").text
    send(sandbox, {"user_id": "user-1", "user_properties": {"$clearAll": "-"}})
    assert "Removed a: $clearAll" in get(sandbox, "/user?device=device-1").text


def test_a_device_brings_its_history_but_not_what_its_user_has(sandbox: Sandbox) -> None:
    send(sandbox, {"device_id": "device-1", "user_properties": {"both": "d", "gone": "d", "own": "d"}})
    send(sandbox, {"user_id": "user-1", "user_properties": {"both": "u", "gone": "u"}})
    send(sandbox, {"user_id": "user-1", "user_properties": {"$unset": {"gone": "-"}}})
    send(sandbox, {"user_id": "user-1", "device_id": "device-1"})
    profile = sandbox.profiles.users["user-1"]
    changes = property_changes(profile.updates, profile.properties)
    assert {name: [change[1:] for change in past] for name, past in changes.items()} == {
        "both": [("$set", "u")],
        "gone": [("$set", "d")],
        "own": [("$set", "d")],
    }


def test_users_are_found_by_a_part_of_their_id(sandbox: Sandbox) -> None:
    send(sandbox, *({"user_id": f"User-{number:03}"} for number in range(200)))
    send(sandbox, {"device_id": "device-12"})
    page = get(sandbox, "/?q=user-01")
    assert "10 found" in page.text
    assert ("a", {"href": "/user?id=User-010"}) in page.elements
    assert "1 found" in get(sandbox, "/?q=VICE-1").text
    assert "No id contains nobody" in get(sandbox, "/?q=nobody").text
    assert "these are the first 50" in get(sandbox, "/?q=USER").text
    assert "The first 11 of 201" in get(sandbox).text


def test_counters_and_the_last_requests_have_their_verdicts(sandbox: Sandbox) -> None:
    assert "Nobody yet." in get(sandbox).text
    send(sandbox, {"user_id": "user-1"})
    with pytest.raises(urllib.error.HTTPError):
        send(sandbox, {"user_id": "a"})
    text = get(sandbox).text
    assert "requests 2 accepted 1" in text
    assert "/identify 1 " in text
    assert "200 applied" in text
    assert "400 not applied: " in text


def test_properties_have_their_fill_and_mixed_types_are_pointed_out(sandbox: Sandbox) -> None:
    send(sandbox, *({"user_id": f"user-{n}", "user_properties": {"a": n}} for n in range(3)))
    send(sandbox, {"user_id": "user-3", "user_properties": {"a": "x", "b": [1]}})
    text = get(sandbox, "/properties").text
    assert "a 100.0 % number 3, text 1 mixed types 0 1 2 x" in text
    assert "b 25.0 % list [1]" in text


def test_faults_are_switched_on_and_off() -> None:
    with running_sandbox(SandboxOptions(faults=(parse_fault("418:0.5"),))) as sandbox:
        page = get(sandbox, "/faults")
        on = {"type": "checkbox", "role": "switch", "name": "on", "value": "418", "checked": None}
        assert ("input", on) in page.elements
        post(sandbox, ("on", "503"), ("share-503", "100"), ("share-429", "20"), ("latency", "1.5"))
        assert [str(rule) for rule in sandbox.options.faults] == ["503:1"]
        assert sandbox.options.latency == 0.0015
        with pytest.raises(urllib.error.HTTPError, match="503"):
            send(sandbox, {"user_id": "user-1"})
        assert "503 not applied, fault 503-before" in get(sandbox).text
        post(sandbox, ("latency", ""))
        assert sandbox.options.faults == ()
        post(sandbox, ("outage", "429"))
        assert "Every request meets 429" in get(sandbox, "/faults").text
        post(sandbox, ("outage", ""))
        send(sandbox, {"user_id": "user-1"})
        post(sandbox, ("forget", "yes"))
        assert "Nobody yet." in get(sandbox).text


@pytest.mark.parametrize(
    "form",
    [
        [("on", "503"), ("share-503", "70"), ("on", "429"), ("share-429", "70")],
        [("on", "<script>"), ("share-<script>", "1")],
        [("on", "503")],
        [("latency", "<b>")],
        [("outage", "<script>alert(1)</script>")],
    ],
)
def test_a_wrong_form_is_told_and_changes_nothing(sandbox: Sandbox, form: list[tuple[str, str]]) -> None:
    before = sandbox.options
    page = post(sandbox, *form, status=400)
    assert any(attributes.get("role") == "alert" for _, attributes in page.elements)
    assert [name for name, _ in page.elements].count("script") == 1
    assert (sandbox.options, sandbox.outage) == (before, None)


@each_row("path", ["/faults", "/_sandbox/faults", "/_sandbox/reset"])
@each_row(
    ("headers", "refused"),
    [
        ({}, False),
        ({"Origin": "{url}"}, False),
        ({"Origin": "{url}", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}, False),
        ({"Origin": "https://example.com"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "{url}.example.com"}, True),
        ({"Origin": "http://127.0.0.1:1"}, True),
        ({"Origin": "http://localhost:{port}"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Host": "example.com:{port}", "Origin": "http://example.com:{port}"}, True),
        ({"Host": "localhost.example.com"}, True),
        ({"Host": "127.0.0.1.example.com:{port}"}, True),
        ({"Host": "["}, True),
    ],
)
def test_a_page_of_another_site_changes_nothing(
    sandbox: Sandbox, path: str, headers: dict[str, str], refused: bool
) -> None:
    sandbox.reset()
    sandbox.change(latency=0.0)
    send(sandbox, {"user_id": "user-1"})
    told = {n: v.format(url=sandbox.url, port=sandbox.url.rpartition(":")[2]) for n, v in headers.items()}
    body = b'{"latency": 0.001}' if path == "/_sandbox/faults" else b"latency=1"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = call(sandbox.url, "POST", path, body, {**form, **told})
    assert (reply.status == 403) == refused
    if refused:
        assert reply.text.startswith("refused: ")
        assert reply.headers["Content-Type"].startswith("text/plain")
        assert (len(sandbox.profiles), sandbox.options.latency) == (1, 0)
    else:
        assert sandbox.options.latency == 0.001 or len(sandbox.profiles) == 0


def test_another_name_of_this_machine_reads_nothing_but_amplitudes_paths_take_any(sandbox: Sandbox) -> None:
    host = {"Host": "example.com"}
    for path in ("/", "/user?id=user-1", "/_sandbox/profiles", "/assets/icon.svg"):
        assert call(sandbox.url, "GET", path, None, host).status == 403
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://example.com", **host}
    body = urlencode({"api_key": "k", "identification": '{"user_id": "user-1"}'}).encode()
    assert call(sandbox.url, "POST", "/identify", body, form).status == 200


def test_an_unknown_user_is_told(sandbox: Sandbox) -> None:
    for path in ("/user", "/user?id=nobody", "/user?device=%3Cb%3E"):
        assert "There is no user" in get(sandbox, path, status=404).text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_values_are_inert(sandbox: Sandbox, text: str) -> None:
    user = f"id-{text}"
    big = [text] * 40 if len(text) < 100 else ["y" * 100] * 100  # more than 10 kB as JSON
    properties = {"v": text, text: "v", "big": {f"{n}": big for n in range(9)}}
    send(
        sandbox,
        {"user_id": user, "country": text, "groups": {text: [text]}, "user_properties": properties},
    )
    safe = {"html", "head", "body", "main", "table", "meta", "link"}
    for path in ("/", f"/?q={quote(text)}", "/properties", f"/user?id={quote(user)}"):
        page = get(sandbox, path)
        names = [name for name, _ in page.elements]
        assert {name: names.count(name) for name in safe & {"html", "head", "body", "main"}} == dict.fromkeys(
            ("html", "head", "body", "main"), 1
        )
        assert (names.count("script"), names.count("img"), names.count("h1")) == (1, 0, 1)
        assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
        assert "\u202e" not in page.text
        assert "60481729" not in page.text
        links = [a.get("href") or a.get("src") or "/" for name, a in page.elements]
        assert all(link.startswith(("/", "#")) for link in links)
    profile = get(sandbox, f"/user?id={quote(user)}")
    if text.isprintable() and len(text) < 100:
        assert " ".join(text.split()) in profile.text


def test_what_the_page_needs_is_in_the_package(sandbox: Sandbox) -> None:
    needed = {
        link
        for name, attributes in get(sandbox).elements
        if name in {"link", "script"} and (link := attributes.get("href") or attributes.get("src"))
    }
    assert len(needed) == 4
    for link in needed:
        with urllib.request.urlopen(sandbox.url + link, timeout=10) as answer:
            assert answer.read() == (ASSETS / link.removeprefix("/assets/")).read_bytes()
    for library in ("htmx", "pico"):
        assert (ASSETS / f"{library}.LICENSE.txt").read_text(encoding="utf-8").strip()
