"""`/batch` and `/2/httpapi` over HTTP: what is taken, how often it counts, and what is told of it."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox import Sandbox, SandboxOptions, parse_fault, running_sandbox
from etl.sandbox.event_endpoint import (
    ID_LENGTH,
    INVALID,
    MISSING,
    SILENCED,
    EventError,
    find_event_errors,
    refusal_of_events,
)
from tests.examples import each_row

from .client import HandClock, control, event, identify, numbered, post_json, read_back, upload, user
from .test_api_rules import BAD, GOOD

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
    for one in (ids, again, *others):
        upload(sandbox.url, [{"event_type": "$identify", "insert_id": "one", **one}])
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


@each_row("status", [400, 413, 429, 500, 503])
@each_row("moment", ["before", "after"])
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


PATHS = ("/batch", "/2/httpapi")


def told(reply_json: dict[str, Any]) -> dict[str, Any]:
    """What an answer says beside its code and its words."""
    return {name: value for name, value in reply_json.items() if name not in {"code", "error"}}


# --- what is refused -------------------------------------------------------------------------------------


def test_a_refused_upload_names_its_offenders_and_leaves_no_trace(sandbox: Sandbox) -> None:
    events = [*numbered(3), event(3, user_id="x"), event(4, event_type=None), event(5, {"$x": 1})]
    reply = upload(sandbox.url, events)
    assert (reply.status, reply.json["code"]) == (400, 400)
    assert told(reply.json) == {
        "events_with_invalid_id_lengths": {"user_id": [3]},
        "events_with_missing_fields": {"event_type": [4]},
        "events_with_invalid_fields": {"user_properties": [5]},
    }
    assert len(sandbox.profiles) == 0
    assert sandbox.requests[0].reason == "invalid length of user_id or device_id"
    assert (sandbox.requests[0].identifications, sandbox.requests[0].applied) == (6, False)


def test_the_first_offender_alone_or_none_is_named_where_that_was_asked_for(sandbox: Sandbox) -> None:
    events = [event(0), event(1, time="now"), event(2, user_id="x")]
    sandbox.change(offenders="first", silenced_users=["user-0"])
    assert told(upload(sandbox.url, events).json) == {"silenced_events": [0]}
    assert told(upload(sandbox.url, events[1:]).json) == {"events_with_invalid_fields": {"time": [0]}}
    sandbox.change(offenders="none")
    assert told(upload(sandbox.url, events).json) == {}


def test_short_ids_pass_where_the_upload_says_so(sandbox: Sandbox) -> None:
    short = [event(1, user_id="17")]
    assert upload(sandbox.url, short).json["events_with_invalid_id_lengths"] == {"user_id": [0]}
    assert upload(sandbox.url, short, options={"min_id_length": 2}).status == 200
    assert upload(sandbox.url, short, options={"min_id_length": 3}).status == 400


def test_a_wrong_key_is_refused_and_never_kept() -> None:
    with running_sandbox(SandboxOptions(api_keys=frozenset({"right"}), record=True)) as sandbox:
        assert upload(sandbox.url, numbered(1), key="right").status == 200
        refused = upload(sandbox.url, numbered(1), key="wrong-key")
        assert (refused.status, refused.json) == (400, {"code": 400, "error": "invalid_api_key"})
        sandbox.change(echo_key=True)
        echoed = upload(sandbox.url, numbered(1), key="wrong-key")
        assert echoed.json["error"] == "Invalid API key: wrong-key"
        for name in ("stats", "requests", "profiles", "faults"):
            assert "wrong-key" not in control(sandbox.url, name).text


def test_a_missing_field_is_named_and_what_isnt_json_refused(sandbox: Sandbox) -> None:
    assert told(post_json(sandbox.url, {"events": numbered(1)}).json) == {"missing_field": "api_key"}
    assert told(upload(sandbox.url, []).json) == {"missing_field": "events"}
    for body in (b"", b"api_key=abc", b"[]", b'{"api_key": "abc", "events": [NaN]}'):
        reply = post_json(sandbox.url, body)
        assert (reply.status, reply.json["code"]) == (400, 400)


@pytest.mark.parametrize("zipped", [False, True])
def test_the_batch_takes_twenty_times_as_much(zipped: bool) -> None:
    options = SandboxOptions(max_bytes=2_000, max_batch_bytes=40_000)
    with running_sandbox(options) as sandbox:
        for path, room in zip(PATHS, (40_000, 2_000), strict=True):
            frame = len(json.dumps({"api_key": "abc", "events": [event(1, {"a": ""})]}))
            fits, over = ([event(1, {"a": "x" * (room - frame + more)})] for more in (0, 1))
            assert upload(sandbox.url, fits, path=path, zipped=zipped).status == 200
            reply = upload(sandbox.url, over, path=path, zipped=zipped)
            assert (reply.status, reply.json["code"]) == (413, 413)
    assert (SandboxOptions().max_bytes, SandboxOptions().max_batch_bytes) == (1_000_000, 20_000_000)


@pytest.mark.parametrize("path", PATHS)
def test_two_thousand_events_pass_and_no_more(sandbox: Sandbox, path: str) -> None:
    assert upload(sandbox.url, numbered(2001), path=path).status == 413
    assert upload(sandbox.url, numbered(2000), path=path).json["events_ingested"] == 2000


def test_poison_is_named_by_index_and_a_firewall_names_nobody() -> None:
    options = SandboxOptions(poison_users=frozenset({"user-1"}), poison_texts=frozenset({"<script> é"}))
    with running_sandbox(options) as sandbox:
        events = [event(0), event(1), event(2, {"a": "<script> é"})]
        reply = upload(sandbox.url, events)
        assert reply.status == 400
        assert told(reply.json) == {
            "events_with_invalid_fields": {"user_id": [1], "user_properties": [2]},
        }
        sandbox.change(poison_status=403)
        blocked = upload(sandbox.url, events)
        assert (blocked.status, told(blocked.json)) == (403, {})
        assert upload(sandbox.url, events[:1]).status == 200


# --- limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "threshold"), [("/batch", 1000), ("/2/httpapi", 30)])
def test_hot_and_over_quota_are_named_and_so_are_their_events(path: str, threshold: int) -> None:
    options = SandboxOptions(
        hot_users=frozenset({"user-1", "device-2", "user-3"}), quota_users=frozenset({"user-3", "device-4"})
    )
    with running_sandbox(options) as sandbox:
        events = [event(n) for n in range(4)]
        events += [event(0, user_id=None, device_id=f"device-{n}") for n in (2, 4)]
        reply = upload(sandbox.url, [*events, event(1)], path=path)
        assert (reply.status, len(sandbox.profiles)) == (429, 0)
        assert told(reply.json) == {
            "eps_threshold": threshold,
            "throttled_users": {"user-1": threshold + 1},
            "throttled_devices": {"device-2": threshold + 1},
            "exceeded_daily_quota_users": {"user-3": 500_001},
            "exceeded_daily_quota_devices": {"device-4": 500_001},
            "throttled_events": [1, 3, 4, 5, 6],
        }
        assert upload(sandbox.url, [events[0], events[2]], path=path).status == 200


def test_a_hot_user_cools_down_after_its_tries_on_all_paths_together() -> None:
    with running_sandbox(SandboxOptions(hot_users=frozenset({"user-1"}), hot_tries=2)) as sandbox:
        statuses = [identify(sandbox.url, user(1)).status]
        statuses += [upload(sandbox.url, [event(1), event(2)]).status for _ in range(2)]
        assert statuses == [429, 429, 200]


def test_a_quick_user_is_named() -> None:
    clock = HandClock()
    options = SandboxOptions(user_updates_per_second=0.5, user_window=4)
    with running_sandbox(options, clock=clock) as sandbox:
        assert [upload(sandbox.url, [event(1)]).status for _ in range(3)] == [200, 200, 429]
        reply = upload(sandbox.url, [event(2), event(1)]).json
        assert (list(reply["throttled_users"]), reply["throttled_events"]) == (["user-1"], [1])
        clock.now += 4
        assert upload(sandbox.url, [event(2), event(1)]).status == 200


def test_rates_count_over_all_paths_together() -> None:
    clock = HandClock()
    options = SandboxOptions(requests_per_second=2, identifications_per_second=4, retry_after=15)
    with running_sandbox(options, clock=clock) as sandbox:
        assert identify(sandbox.url, [user(1), user(2)]).status == 200
        assert upload(sandbox.url, numbered(3)).status == 429
        reply = upload(sandbox.url, numbered(1))
        assert (reply.status, reply.headers["Retry-After"], told(reply.json)) == (429, "15", {})
        clock.now += 1
        assert upload(sandbox.url, numbered(4)).status == 200


def test_updates_above_the_hourly_limit_are_dropped_in_silence() -> None:
    with running_sandbox(SandboxOptions(user_updates_per_hour=2), clock=HandClock()) as sandbox:
        for n in range(3):
            assert upload(sandbox.url, [event(1, {"n": n})]).json["events_ingested"] == 1
        assert sandbox.profiles.users["user-1"].properties == {"n": 1}
        assert sandbox.stats.dropped_updates == 1


WRONG: dict[str, tuple[dict[str, Any], dict[str, object]]] = {
    "no type": (event(1, event_type=None), {MISSING: {"event_type": [1]}}),
    "empty type": (event(1, event_type=""), {MISSING: {"event_type": [1]}}),
    "type is a number": (event(1, event_type=3), {INVALID: {"event_type": [1]}}),
    "no id": (event(1, user_id=None), {MISSING: {"user_id": [1], "device_id": [1]}}),
    "short id": (event(1, user_id="1234"), {ID_LENGTH: {"user_id": [1]}}),
    "short device": (event(1, device_id="1234"), {ID_LENGTH: {"device_id": [1]}}),
    "long id": (event(1, user_id="x" * 1025), {ID_LENGTH: {"user_id": [1]}}),
    "id is a number": (event(1, user_id=123456), {INVALID: {"user_id": [1]}}),
    "refused id": (event(1, user_id="anonymous"), {INVALID: {"user_id": [1]}}),
    "time as text": (event(1, time="now"), {INVALID: {"time": [1]}}),
    "broken time": (event(1, time=1.5), {INVALID: {"time": [1]}}),
    "truth as time": (event(1, time=True), {INVALID: {"time": [1]}}),
    "insert_id is a number": (event(1, insert_id=3), {INVALID: {"insert_id": [1]}}),
    "properties of the event": (event(1, event_properties=[]), {INVALID: {"event_properties": [1]}}),
    "properties of the user": (event(1, {"$add": {"a": "1"}}), {INVALID: {"user_properties": [1]}}),
    "groups": (event(1, groups=["a"]), {INVALID: {"groups": [1]}}),
    "text field": (event(1, country=49), {INVALID: {"country": [1]}}),
    "two faults": (event(1, time=-1, user_id="1"), {INVALID: {"time": [1]}, ID_LENGTH: {"user_id": [1]}}),
}


@each_row("name", WRONG)
def test_an_offender_is_named_by_its_field_and_index(name: str) -> None:
    wrong, told = WRONG[name]
    errors = find_event_errors([event(0), wrong, event(2)], 5)
    error = refusal_of_events(errors, "all")
    assert (error.status, error.details) == (400, told)


def test_an_event_may_be_what_an_identification_may_be_and_nothing_else() -> None:
    assert find_event_errors([{**one, "event_type": "$identify"} for one in GOOD], 5) == []
    found = find_event_errors([{**one, "event_type": "$identify"} for one in BAD.values()], 5)
    assert {one.index for one in found} == set(range(len(BAD)))


def test_the_shortest_id_is_as_the_upload_asks_and_an_empty_one_is_never_right() -> None:
    assert find_event_errors([event(1, user_id="abc")], 3) == []
    assert find_event_errors([event(1, user_id="abcdef")], 7)[0].kind == ID_LENGTH
    assert find_event_errors([event(1, user_id="")], 1)[0].kind == ID_LENGTH
    assert find_event_errors([event(1, user_id=" ")], 1)[0].kind == INVALID
    assert find_event_errors([event(1, user_id="0")], 1)[0].kind == INVALID


def test_a_groups_event_needs_no_user() -> None:
    assert find_event_errors([{"event_type": "$groupidentify", "groups": {"org": "a"}}], 5) == []


ERRORS = st.lists(
    st.builds(
        EventError, st.integers(0, 9), st.sampled_from([INVALID, SILENCED]), st.just("time"), st.just("w")
    ),
    min_size=1,
)


@given(ERRORS)
def test_the_first_offender_alone_is_the_one_with_the_lowest_index(errors: list[EventError]) -> None:
    (told,) = refusal_of_events(errors, "first").details.values()
    named = told["time"] if isinstance(told, dict) else told
    assert named == [min(one.index for one in errors)]
    assert refusal_of_events(errors, "none").details == {}
