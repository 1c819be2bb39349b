"""`/batch` and `/2/httpapi` over HTTP: what is taken, how often it counts, and what is told of it."""

from __future__ import annotations

import asyncio
import http.client
import json
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest

from etl.sandbox import Sandbox, SandboxOptions, parse_fault, running_sandbox

from .client import HandClock, control, event, identify, numbered, read_back, upload, user

if TYPE_CHECKING:
    from collections.abc import Iterator

PATHS = ("/batch", "/2/httpapi")
DAY = 86_400.0


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(SandboxOptions(record=True)) as running:
        yield running


# --- what is taken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_events_taken_are_counted_and_read_back(path: str, zipped: bool) -> None:
    with running_sandbox(wall=lambda: 1_700_000_000.25) as sandbox:
        events = [event(1, {"$set": {"plan": "pro"}, "$add": {"n": 2}}, city="Köln"), event(2)]
        reply = upload(sandbox.url, events, path=path, zipped=zipped)
        assert (reply.status, reply.json) == (
            200,
            {
                "code": 200,
                "events_ingested": 2,
                "payload_size_bytes": len(json.dumps({"api_key": "abc", "events": events})),
                "server_upload_time": 1_700_000_000_250,
            },
        )
        assert reply.headers["Content-Type"].startswith("application/json")
        data = read_back(sandbox.url, {"user_id": "user-1"}).json["userData"]
        assert (data["amp_props"], data["city"]) == ({"plan": "pro", "n": 2}, "Köln")
        assert sandbox.stats.identifications == 2
        assert not sandbox.stats.unknown_keys


def test_both_ways_change_the_same_profile_in_the_same_way(sandbox: Sandbox) -> None:
    first = {"user_properties": {"$append": {"tags": "a"}}, "country": "DE", "groups": {"org": "x"}}
    later = {"user_properties": {"$prepend": {"tags": "b"}, "$add": {"n": 1}}, "city": "Rome"}
    for number, ways in enumerate([(False, False), (True, True), (False, True), (True, False)]):
        for event_way, change in zip(ways, (first, later), strict=True):
            one = {"user_id": f"user-{number}", **change}
            way = [{"event_type": "$identify", **one}] if event_way else one
            assert (upload if event_way else identify)(sandbox.url, way).status == 200
    profiles = [sandbox.profiles.users[f"user-{number}"] for number in range(4)]
    assert {json.dumps({**profile.as_json(), "user_id": ""}) for profile in profiles} == {
        json.dumps({**profiles[0].as_json(), "user_id": ""})
    }
    assert profiles[0].properties == {"tags": ["b", "a"], "n": 1}


def test_other_events_are_taken_and_change_user_properties_at_most(sandbox: Sandbox) -> None:
    events = [
        event(1, event_type="opened", groups={"org": "a"}, country="DE", event_properties={"a": 1}),
        event(2, {"plan": "pro"}, event_type="bought", price=1.5, country="DE", groups={"org": "a"}),
        {"event_type": "$groupidentify", "groups": {"org": "a"}, "group_properties": {"$set": {"a": 1}}},
    ]
    assert upload(sandbox.url, events).json["events_ingested"] == 3
    assert sandbox.profiles.as_json() == {
        "users": {
            "user-2": {"user_id": "user-2", "device_ids": [], "amp_props": {"plan": "pro"}, "groups": {}}
        },
        "devices": {},
    }
    assert (sandbox.stats.events, sandbox.stats.identifications) == (3, 0)
    assert not sandbox.stats.unknown_keys


def test_keys_that_no_event_has_are_counted(sandbox: Sandbox) -> None:
    upload(sandbox.url, [event(1, insert_id="a", uuid="b")])
    assert sandbox.stats.unknown_keys == {"uuid": 1}


def test_a_user_may_come_twice_in_one_upload_and_that_is_counted(sandbox: Sandbox) -> None:
    events = [event(1, {"$append": {"tags": tag}}) for tag in "abc"]
    assert upload(sandbox.url, [*events, event(1, event_type="opened")]).status == 200
    assert sandbox.profiles.users["user-1"].properties == {"tags": ["a", "b", "c"]}
    assert sandbox.stats.repeated_users == 2


# --- insert_id -------------------------------------------------------------------------------------------


def test_an_insert_id_counts_once_in_seven_days() -> None:
    clock = HandClock()
    with running_sandbox(clock=clock) as sandbox:
        events = [event(1, {"$add": {"n": 1}}, insert_id="one"), event(1, {"$add": {"n": 1}})]
        for _ in range(2):
            assert upload(sandbox.url, events).json["events_ingested"] == 2
        assert sandbox.profiles.users["user-1"].properties == {"n": 3}
        assert (sandbox.stats.repeated_inserts, sandbox.stats.identifications) == (1, 3)
        clock.now += 7 * DAY
        upload(sandbox.url, events)
        assert sandbox.profiles.users["user-1"].properties == {"n": 5}


def test_an_insert_id_counts_once_in_one_upload_and_over_both_paths(sandbox: Sandbox) -> None:
    one = event(1, {"$add": {"n": 1}}, insert_id="one")
    upload(sandbox.url, [one, one])
    upload(sandbox.url, [one], path="/2/httpapi")
    assert sandbox.profiles.users["user-1"].properties == {"n": 1}


@pytest.mark.parametrize(
    ("ids", "again"),
    [
        ({"user_id": "user-1"}, {"user_id": " user-1 "}),
        ({"user_id": "user-1", "device_id": "device-1"}, {"user_id": "user-2", "device_id": "device-1"}),
    ],
)
def test_an_insert_id_belongs_to_its_device_or_without_one_to_its_user(
    sandbox: Sandbox, ids: dict[str, str], again: dict[str, str]
) -> None:
    others = (
        {"user_id": "user-3"},
        {"device_id": "device-3"},
        {"user_id": "user-1", "device_id": "device-3"},
    )
    for given in (ids, again, *others):
        upload(sandbox.url, [{"event_type": "$identify", "insert_id": "one", **given}])
    assert sandbox.stats.repeated_inserts == 2  # `again`, and the last for its device


def test_new_events_alone_are_counted_where_that_was_asked_for() -> None:
    with running_sandbox(SandboxOptions(ingested="new")) as sandbox:
        events = [event(1, insert_id="one"), event(2, insert_id="one")]
        assert upload(sandbox.url, events[:1]).json["events_ingested"] == 1
        assert upload(sandbox.url, events).json["events_ingested"] == 1


def test_a_refused_upload_uses_up_no_insert_id(sandbox: Sandbox) -> None:
    good = event(1, {"$add": {"n": 1}}, insert_id="one")
    assert upload(sandbox.url, [good, event(2, time="now")]).status == 400
    sandbox.change(hot_users=["user-2"])
    assert upload(sandbox.url, [good, event(2)]).status == 429
    assert upload(sandbox.url, [good]).status == 200
    assert sandbox.profiles.users["user-1"].properties == {"n": 1}


def test_insert_ids_outlast_a_change_of_options_and_no_reset(sandbox: Sandbox) -> None:
    one = event(1, {"$add": {"n": 1}}, insert_id="one")
    upload(sandbox.url, [one])
    sandbox.change(latency="0ms")
    upload(sandbox.url, [one])
    assert sandbox.profiles.users["user-1"].properties == {"n": 1}
    sandbox.reset()
    upload(sandbox.url, [one])
    assert sandbox.profiles.users["user-1"].properties == {"n": 1}
    assert sandbox.stats.repeated_inserts == 0


# --- faults, order, counts -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 429, 500, 503])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_status_fault_answers_so_and_applies_as_told(status: int, moment: str) -> None:
    with running_sandbox(SandboxOptions(faults=(parse_fault(f"{status}-{moment}:1"),))) as sandbox:
        assert upload(sandbox.url, numbered(1)).status == status
        assert len(sandbox.profiles) == (moment == "after")
        assert sandbox.stats.faults == {f"{status}-{moment}": 1}


@pytest.mark.parametrize("fault", ["reset-after:1", "500-after:1", "truncate:1"])
def test_a_resend_after_a_lost_answer_counts_once(fault: str) -> None:
    options = SandboxOptions(faults=(parse_fault(fault),), record=True)
    with running_sandbox(options) as sandbox:
        events = [event(1, {"$add": {"n": 1}}, insert_id="one")]
        with suppress(ConnectionError, http.client.IncompleteRead):
            assert upload(sandbox.url, events).status == 500
        sandbox.change(faults=[])
        assert upload(sandbox.url, events).status == 200
        assert sandbox.profiles.users["user-1"].properties == {"n": 1}
        assert [(entry.path, entry.applied) for entry in sandbox.requests] == [("/batch", True)] * 2
        assert sandbox.requests[0].sha256 == sandbox.requests[1].sha256


def test_an_outage_and_latency_meet_uploads_too() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with running_sandbox(SandboxOptions(latency=0.08), sleep=sleep) as sandbox:
        sandbox.begin_outage("503")
        assert upload(sandbox.url, numbered(1)).status == 503
        sandbox.end_outage()
        assert upload(sandbox.url, numbered(1)).status == 200
    assert waits == [0.08, 0.08]


def test_users_in_two_requests_at_once_are_counted_over_all_paths() -> None:
    async def scenario() -> int:
        async with Sandbox(SandboxOptions(latency=0.02)) as sandbox, aiohttp.ClientSession() as session:
            batch = {"api_key": "abc", "events": numbered(3)}
            form = {"api_key": "abc", "identification": json.dumps([user(n) for n in (1, 2, 9)])}
            await asyncio.gather(
                session.post(sandbox.url + "/batch", json=batch),
                session.post(sandbox.url + "/identify", data=form),
            )
            return sandbox.stats.concurrent_users

    assert asyncio.run(scenario()) == 2


def test_stats_and_requests_tell_of_uploads(sandbox: Sandbox) -> None:
    upload(sandbox.url, [*numbered(2), event(3, event_type="opened")], zipped=True)
    upload(sandbox.url, [event(1, time="now")], path="/2/httpapi")
    stats, entries = control(sandbox.url, "stats").json, control(sandbox.url, "requests").json
    assert (stats["requests"], stats["accepted"], stats["identifications"], stats["events"]) == (2, 1, 2, 1)
    assert stats["statuses"] == {"200": 1, "400": 1}
    assert stats["bytes"] == sum(entry["size"] for entry in entries)
    assert [(one["path"], one["identifications"], one["users"]) for one in entries] == [
        ("/batch", 3, 3),
        ("/2/httpapi", 1, 1),
    ]


def test_a_sink_counts_events_by_their_type_and_keeps_nothing() -> None:
    with running_sandbox(SandboxOptions(sink=True)) as sandbox:
        events = [event(n, {"a": 'in a text: "event_type":'}) for n in range(3)]
        assert upload(sandbox.url, events, zipped=True).json["events_ingested"] == 3
        assert (sandbox.stats.accepted, len(sandbox.profiles)) == (1, 0)
