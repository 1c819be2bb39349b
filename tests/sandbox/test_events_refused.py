"""`/batch` and `/2/httpapi` over HTTP: what is refused or throttled, and who is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from etl.sandbox import Sandbox, SandboxOptions, running_sandbox

from .client import HandClock, control, event, identify, numbered, post_json, upload, user

if TYPE_CHECKING:
    from collections.abc import Iterator

PATHS = ("/batch", "/2/httpapi")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(SandboxOptions(record=True)) as running:
        yield running


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
