"""The sandbox's page as a person uses it, by mouse or by keyboard alone, and as a hostile export fills it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from etl.sandbox import Sandbox, running_sandbox
from etl.sandbox.web_page import Trial
from tests.browser.checks import HOSTILE, Watched

Opened = Callable[..., Watched]


def send(sandbox: Sandbox, *identifications: Mapping[str, object]) -> int:
    form = urlencode({"api_key": "any", "identification": json.dumps(identifications)}).encode()
    try:
        with urllib.request.urlopen(f"{sandbox.url}/identify", data=form, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def count(page: Any, label: str) -> str:
    text: str = (
        page.locator(".counters div", has=page.get_by_text(label, exact=True)).locator("dd").inner_text()
    )
    return text


def test_a_user_is_found_by_typing_and_has_a_history(sandbox: Sandbox, opened: Opened) -> None:
    send(sandbox, *({"user_id": f"user-{n:03}", "user_properties": {"plan": "free"}} for n in range(200)))
    send(sandbox, {"user_id": "user-123", "user_properties": {"plan": "pro"}})
    watched = opened(sandbox.url)
    page = watched.page
    page.locator("#q").press_sequentially("r-123")
    page.get_by_text("1 found.").wait_for()
    page.get_by_role("link", name="user-123").click()
    assert page.get_by_role("heading", level=1).inner_text() == "user-123"
    row = page.get_by_role("row", name="plan")
    assert not page.get_by_text("free").is_visible()
    row.get_by_text("2 changes").click()
    assert page.get_by_text("free").is_visible()
    watched.check_readable()


def test_counters_and_requests_renew_themselves_and_leave_the_focus(sandbox: Sandbox, opened: Opened) -> None:
    page = opened(sandbox.url).page
    page.locator("#q").fill("user")
    assert count(page, "users") == "0"
    send(sandbox, {"user_id": "user-1"}, {"user_id": "user-2"})
    page.get_by_role("cell", name="/identify").wait_for()
    page.wait_for_function("document.querySelector('.counters dd').textContent === '2'")
    assert count(page, "identifications") == "2"
    assert page.evaluate("document.activeElement.id") == "q"
    assert page.locator("#q").input_value() == "user"


def test_a_fault_is_switched_on_and_off(sandbox: Sandbox, opened: Opened) -> None:
    page = opened(f"{sandbox.url}/faults").page
    page.get_by_role("switch", name="503").check()
    page.get_by_label("percent of the requests that meet 503").fill("100")
    page.get_by_role("button", name="Apply").click()
    assert page.get_by_role("switch", name="503").is_checked()
    assert send(sandbox, {"user_id": "user-1"}) == 503
    page.get_by_role("switch", name="503").uncheck()
    page.get_by_role("button", name="Apply").click()
    assert send(sandbox, {"user_id": "user-1"}) == 200
    page.get_by_role("button", name="Begin 429").click()
    assert send(sandbox, {"user_id": "user-1"}) == 429
    page.get_by_role("button", name="End the outage").click()
    page.get_by_role("button", name="Forget everything").click()
    page.get_by_role("link", name="Users", exact=True).click()
    page.get_by_text("Nobody yet.").wait_for()


def test_everything_is_reached_by_the_keyboard_alone(sandbox: Sandbox, opened: Opened) -> None:
    send(sandbox, *({"user_id": f"user-{n}", "user_properties": {"plan": "free"}} for n in range(20)))
    watched = opened(sandbox.url)
    page, keys = watched.page, watched.page.keyboard
    watched.tab_to(".skip")
    keys.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    watched.tab_to("#q")
    keys.type("user-17")
    page.get_by_text("1 found.").wait_for()
    watched.tab_to("#found a")
    keys.press("Enter")
    page.wait_for_url(re.compile(r"/user\?id=user-17$"))
    watched.tab_to("nav a[href='/faults']")
    keys.press("Enter")
    page.wait_for_url("**/faults")
    watched.tab_to("[value='503'][type=checkbox]")
    keys.press("Space")
    watched.tab_to("[name='share-503']")
    keys.press("Control+a")
    keys.type("100")
    with page.expect_navigation():
        keys.press("Enter")
    assert send(sandbox, {"user_id": "user-1"}) == 503
    watched.tab_to("button[name=forget]")
    with page.expect_navigation():
        keys.press("Enter")
    assert len(sandbox.profiles) == 0


def test_without_scripts_plain_forms_do_the_same(sandbox: Sandbox, opened: Opened) -> None:
    send(sandbox, {"user_id": "user-1"}, {"user_id": "other"})
    page = opened(sandbox.url, java_script_enabled=False).page
    page.locator("#q").fill("ser")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="user-1").click()
    assert page.get_by_role("heading", level=1).inner_text() == "user-1"


@pytest.mark.parametrize("path", ["/faults", "/_sandbox/reset"])
def test_a_page_of_another_site_cannot_forget_everything(sandbox: Sandbox, browser: Any, path: str) -> None:
    send(sandbox, {"user_id": "user-1"})
    form = f'<form method="post" action="{sandbox.url}{path}"><button name="forget">x</button></form>'
    with browser.new_context() as context:
        page = context.new_page()
        page.route(
            "http://other.localhost/", lambda route: route.fulfill(body=form, content_type="text/html")
        )
        page.goto("http://other.localhost/")
        with page.expect_response(sandbox.url + path) as answer:
            page.get_by_role("button").click()
        assert answer.value.status == 403
        page.get_by_text("refused: this came from a page of another site").wait_for()
    assert len(sandbox.profiles) == 1


@pytest.fixture(scope="module")
def hostile() -> Iterator[Sandbox]:
    """A sandbox whose users, properties, groups, fields and requests are all hostile."""
    with running_sandbox() as running:
        for number, text in enumerate(HOSTILE):
            properties = {"v": text, text: {text: [text] * 3}, "list": [text], f"{number} {text}": text}
            user = f"{number}-{text[:900]}"
            send(
                running,
                {"user_id": user, "country": text, "groups": {text: [text]}, "user_properties": properties},
            )
            send(running, {"user_id": user, "user_properties": {"v": number, text: "again"}})
            send(running, {"user_id": user, "user_properties": [text]})
            send(running, {"device_id": f"device-{text[:900]}", "user_properties": {"v": text}})
        running.trial = Trial(
            f"Sent {HOSTILE[0]}",
            lines=(f"from {HOSTILE[-2]}", *HOSTILE[:4]),
            command=f"propsync run {HOSTILE[-2]}",
            rows={user: {HOSTILE[1]: user, HOSTILE[7]: None, "n": 1} for user in running.profiles.users},
        )
        yield running


def test_what_a_hostile_export_sends_is_only_text(hostile: Sandbox, opened: Opened) -> None:
    for path in ("/", "/?q=script", f"/?q={quote(HOSTILE[1])}", "/?q=nobody%00", "/properties", "/faults"):
        watched = opened(hostile.url + path)
        assert watched.page.locator("main script, main img, main iframe").count() == 0
        watched.check_readable()


def test_hostile_profiles_are_only_text(hostile: Sandbox, opened: Opened) -> None:
    for user in list(hostile.profiles.users):
        watched = opened(f"{hostile.url}/user?id={quote(user)}")
        for summary in watched.page.locator("summary").all():
            summary.click()
        assert watched.page.locator("main script, main img, main iframe").count() == 0
        watched.check_readable()
