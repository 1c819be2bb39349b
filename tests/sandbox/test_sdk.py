"""Amplitude's own SDK takes the sandbox for Amplitude, and what it sends means what /identify makes of it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from amplitude import Amplitude, BaseEvent, Config, EventOptions, Identify
from amplitude.constants import EventLogLevel
from amplitude.storage import InMemoryStorage, StorageProvider

from etl.sandbox import Sandbox, SandboxOptions, running_sandbox

from .client import identify

if TYPE_CHECKING:
    from collections.abc import Iterator

PATHS = {"/batch": True, "/2/httpapi": False}
Heard: TypeAlias = list[tuple[str, int]]
# Each operator finds something there that it can change, and something new.
STEPS: list[tuple[dict[str, str], Identify]] = [
    ({}, Identify().set("plan", "free").set("mrr", 12.5).set("on", True).set("deep", {"a": [1, "é"]})),
    ({}, Identify().set("tags", ["a", "b"]).set("seen", ["x"]).set("gone", "soon").set("left", ["l", "r"])),
    ({"country": "DE", "city": "Köln"}, Identify().set_once("plan", "never").set_once("first", "now")),
    ({}, Identify().add("mrr", 2).add("logins", 3).append("tags", "c").prepend("seen", "w")),
    ({}, Identify().append("new", "n").prepend("old", ["o", "p"]).unset("gone").unset("missing")),
    ({"country": "FR"}, Identify().pre_insert("tags", "b").post_insert("seen", "z").remove("left", "l")),
    (
        {},
        Identify().pre_insert("tags", "0").post_insert("seen", "x").remove("missing", "m").add("logins", -1),
    ),
]
CLEARED: list[tuple[dict[str, str], Identify]] = [
    ({}, Identify().clear_all()),
    ({}, Identify().set("only", "this")),
]
EXPECTED = {
    "plan": "free",
    "first": "now",
    "mrr": 14.5,
    "logins": 2,
    "on": True,
    "deep": {"a": [1, "é"]},
    "tags": ["0", "a", "b", "c"],
    "seen": ["w", "x", "z"],
    "left": ["r"],
    "new": ["n"],
    "old": ["o", "p"],
}
LAST = {"only": "this"}


class KeptStorage(StorageProvider):  # type: ignore[misc]
    """Hands out one storage, so that its waiting thread can be woken."""

    def __init__(self) -> None:
        self.storage = InMemoryStorage()

    def get_storage(self) -> InMemoryStorage:
        return self.storage


@contextmanager
def sdk(url: str, path: str, heard: Heard) -> Iterator[Amplitude]:
    """A client of the SDK, all of whose threads have ended afterwards."""
    before = set(threading.enumerate())
    kept = KeptStorage()
    config = Config(
        server_url=url + path,
        use_batch=PATHS[path],
        flush_interval_millis=60_000,  # so that nothing but `flush` sends
        storage_provider=kept,
        callback=lambda event, code, _: heard.append((event["user_id"], code)),
        event_log_level=EventLogLevel.NONE,
    )
    client = Amplitude("abc", config)
    try:
        yield client
    finally:
        client.shutdown()
        with kept.storage.lock:
            kept.storage.lock.notify_all()
        started = set(threading.enumerate()) - before
        for thread in started:
            thread.join(30)
        assert not any(thread.is_alive() for thread in started)


def flush(client: Amplitude) -> None:
    for sending in client.flush():
        if sending is not None:
            sending.result(30)


def state(sandbox: Sandbox, user_id: str) -> dict[str, Any]:
    return {**sandbox.profiles.users[user_id].as_json(), "user_id": ""}


@pytest.mark.parametrize("path", PATHS)
def test_the_sdk_makes_the_profile_that_identify_makes(path: str) -> None:
    heard: Heard = []
    with running_sandbox(SandboxOptions(record=True)) as sandbox, sdk(sandbox.url, path, heard) as client:
        for steps in (STEPS, CLEARED):
            for fields, step in steps:
                client.identify(step, EventOptions(user_id="by-sdk", **fields))
                one = {"user_id": "by-identify", "user_properties": step.user_properties, **fields}
                assert identify(sandbox.url, one).text == "success"
            flush(client)
            assert state(sandbox, "by-sdk") == state(sandbox, "by-identify")
            assert sandbox.profiles.users["by-sdk"].properties == (EXPECTED if steps is STEPS else LAST)
        assert heard == [("by-sdk", 200)] * len(STEPS + CLEARED)
        assert [entry.identifications for entry in sandbox.requests if entry.path == path] == [
            len(STEPS),
            len(CLEARED),
        ]
        assert not sandbox.stats.unknown_keys


def test_the_sdk_tells_events_of_other_types_too() -> None:
    heard: Heard = []
    with running_sandbox() as sandbox, sdk(sandbox.url, "/batch", heard) as client:
        client.track(BaseEvent("opened", user_id="by-sdk", user_properties={"plan": "pro"}))
        client.set_group("org", ["a", "b"], EventOptions(user_id="by-sdk"))
        client.group_identify("org", "a", Identify().set("size", 3))
        flush(client)
        assert state(sandbox, "by-sdk")["groups"] == {"org": ["a", "b"]}
        assert sandbox.profiles.users["by-sdk"].properties == {"plan": "pro", "org": ["a", "b"]}
        assert (sandbox.stats.events, sandbox.stats.identifications) == (2, 1)
        assert len(sandbox.profiles) == 1


def send(client: Amplitude, *user_ids: str) -> None:
    for user_id in user_ids:
        client.identify(Identify().set("plan", "pro"), EventOptions(user_id=user_id))
    for _ in range(2):  # the second takes up what the first was told to send again
        flush(client)


@pytest.mark.parametrize("path", PATHS)
def test_the_sdk_understands_who_is_refused_and_sends_the_others_again(path: str) -> None:
    heard: Heard = []
    options = SandboxOptions(silenced_users=frozenset({"user-2"}), quota_users=frozenset({"user-4"}))
    with running_sandbox(options) as sandbox, sdk(sandbox.url, path, heard) as client:
        send(client, "1", "user-1", "user-2")
        assert sorted(heard) == [("1", 400), ("user-1", 200), ("user-2", 400)]
        heard.clear()
        send(client, "user-3", "user-4")
        assert sorted(heard) == [("user-3", 200), ("user-4", 429)]
        assert sorted(sandbox.profiles.users) == ["user-1", "user-3"]


def test_the_sdk_knows_a_refused_key(caplog: pytest.LogCaptureFixture) -> None:
    options = SandboxOptions(api_keys=frozenset({"other"}), echo_key=True)
    with running_sandbox(options) as sandbox, sdk(sandbox.url, "/batch", []) as client:
        client.identify(Identify().set("plan", "pro"), EventOptions(user_id="user-1"))
        flush(client)
    assert "Invalid API Key" in caplog.text
