from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import time
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import aiohttp
import pytest

from etl.amplitude.responses import (
    Accepted,
    Refused,
    Response,
    SlowDown,
    Stop,
    TryAgain,
    Verdict,
    classify_response,
)
from etl.sandbox import Sandbox, SandboxOptions, parse_fault, running_sandbox
from etl.sandbox.api_rules import TEXT_KEYS
from etl.sandbox.sandbox_options import OVERSIZED_BYTES
from tests.examples import each_row

from .client import FORM, HandClock, Reply, call, control, identify, post_form, read_back, user

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NASTY = "a&b=c+d%20%\x00\x7f\"\\ é 漢字 \U0001f600 <script>alert(1)</script> ' OR 1=1; --\r\n\t"


def judge(status: int, headers: Mapping[str, str], body: bytes, *, key: str) -> Verdict:
    return classify_response(Response(status, headers, body, (key,)))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(SandboxOptions(record=True)) as running:
        yield running


def multipart(fields: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    lines = [
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return ("".join(lines) + "--edge--\r\n").encode(), {"Content-Type": "multipart/form-data; boundary=edge"}


def test_an_address_too_long_for_http_is_refused_without_a_trace(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    reply = call(sandbox.url, "GET", f"/?q={'a' * 9000}")
    assert reply.status == 400
    assert not caplog.records


# --- what is taken ---------------------------------------------------------------------------------------


def test_success_is_plain_text_and_what_was_sent_is_read_back(sandbox: Sandbox) -> None:
    reply = identify(sandbox.url, [user(1, plan="pro", mrr=12.5, tags=["a"]), user(2, plan="free")])
    assert (reply.status, reply.text) == (200, "success")
    assert read_back(sandbox.url, {"user_id": "user-1"}).json["userData"] == {
        "user_id": "user-1",
        "device_ids": [],
        "amp_props": {"plan": "pro", "mrr": 12.5, "tags": ["a"]},
        "groups": {},
    }
    assert sandbox.profiles.users["user-2"].properties == {"plan": "free"}


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("safe", ["", "!\"#$'()*,-./:;<=>?@[\\]^_`{|}~ "])
def test_values_arrive_exactly_however_the_form_is_escaped(
    sandbox: Sandbox, safe: str, ascii_only: bool
) -> None:
    text = json.dumps([user(1, nasty=NASTY)], ensure_ascii=ascii_only)
    body = f"api_key=abc&identification={quote(text, safe=safe)}".encode()
    assert call(sandbox.url, "POST", "/identify", body, {"Content-Type": FORM}).text == "success"
    assert sandbox.profiles.users["user-1"].properties == {"nasty": NASTY}


def test_values_arrive_exactly_in_a_multipart_form(sandbox: Sandbox) -> None:
    text = json.dumps([user(1, nasty=NASTY, long="x" * 900)], ensure_ascii=False)
    body, headers = multipart({"api_key": "abc", "identification": text})
    assert call(sandbox.url, "POST", "/identify", body, headers).text == "success"
    assert sandbox.profiles.users["user-1"].properties == {"nasty": NASTY, "long": "x" * 900}
    assert sandbox.requests[0].sha256 == sha256(body).hexdigest()


def test_every_string_field_is_read_back_by_its_api_name(sandbox: Sandbox) -> None:
    fields = {name: f"{name}-value" for name in TEXT_KEYS}
    identify(sandbox.url, {"user_id": "user-1", "groups": {"org": "a"}, **fields})
    told = read_back(sandbox.url, {"user_id": "user-1"}).json["userData"]
    assert {name: told[name] for name in TEXT_KEYS} == fields
    assert told["groups"] == {"org": ["a"]}


# --- what is refused -------------------------------------------------------------------------------------


def test_a_refused_request_leaves_no_trace(sandbox: Sandbox) -> None:
    reply = identify(sandbox.url, [user(1, a=1), {"user_id": "x", "user_properties": {"a": 1}}])
    assert judge(reply.status, reply.headers, reply.text.encode(), key="abc") == Refused(400, reply.text)
    assert len(sandbox.profiles) == 0
    assert sandbox.stats.identifications == 0
    assert (sandbox.requests[0].identifications, sandbox.requests[0].applied) == (2, False)


def test_a_body_that_isnt_a_form_is_a_missing_event(sandbox: Sandbox) -> None:
    text = json.dumps({"api_key": "abc", "identification": [user(1)]}).encode()
    broken = b"--edge\r\nnonsense"
    bodies = [
        (text, {"Content-Type": "application/json"}),
        (text, {}),
        (text, {"Content-Type": FORM + "; charset=no-such"}),
        (b"api_key=abc&identification=\xff", {"Content-Type": FORM}),
        (broken, {"Content-Type": "multipart/form-data; boundary=edge"}),
        (broken, {"Content-Type": "multipart/form-data"}),
        (b"", {"Content-Type": "multipart/form-data; boundary=edge"}),
    ]
    replies = [call(sandbox.url, "POST", "/identify", body, headers) for body, headers in bodies]
    assert {reply.status for reply in replies} == {400}
    assert replies[0].text == replies[1].text == "missing_event"
    assert len(sandbox.profiles) == 0


def test_a_missing_or_malformed_identification_is_a_missing_event(sandbox: Sandbox) -> None:
    for fields in ({}, {"identification": ""}, {"identification": '[{"user_id"'}):
        reply = post_form(sandbox.url, {"api_key": "abc", **fields})
        assert (reply.status, reply.text) == (400, "missing_event")


def test_a_compressed_body_isnt_opened(sandbox: Sandbox) -> None:
    body = gzip.compress(urlencode({"api_key": "abc", "identification": json.dumps(user(1))}).encode())
    reply = call(sandbox.url, "POST", "/identify", body, {"Content-Type": FORM, "Content-Encoding": "gzip"})
    assert (reply.status, reply.text) == (400, "missing_event")


def test_what_is_wrong_with_an_undocumented_form_is_refused_too(caplog: pytest.LogCaptureFixture) -> None:
    with running_sandbox(SandboxOptions(identify_gzip=True, identify_min_id_length=True)) as sandbox:
        form = {"api_key": "abc", "identification": json.dumps({"user_id": "17"})}
        zipped = {"Content-Type": FORM, "Content-Encoding": "gzip"}
        for options, status in (('{"min_id_length": 2}', 200), ("{", 400), ("[]", 400), ("{}", 400)):
            body = urlencode({**form, "options": options}).encode()
            assert post_form(sandbox.url, {**form, "options": options}).status == status
            assert call(sandbox.url, "POST", "/identify", gzip.compress(body), zipped).status == status
            assert call(sandbox.url, "POST", "/identify", body, zipped).status == 400
        big = gzip.compress(urlencode({**form, "more": "x" * 2_000_000}).encode())
        assert call(sandbox.url, "POST", "/identify", big, zipped).status == 413
    assert not caplog.records


def test_a_wrong_key_stops_a_run_and_is_never_kept() -> None:
    options = SandboxOptions(api_keys=frozenset({"right"}), record=True)
    with running_sandbox(options) as sandbox:
        assert identify(sandbox.url, user(1), key="right").text == "success"
        assert identify(sandbox.url, user(1), key="wrong-key").text == "invalid_api_key"
        sandbox.change(echo_key=True)
        echoed = identify(sandbox.url, user(1), key="wrong-key")
        assert "Invalid API key: wrong-key" in echoed.text
        assert isinstance(judge(400, {}, echoed.text.encode(), key="wrong-key"), Stop)
        for name in ("stats", "requests", "profiles", "faults"):
            assert "wrong-key" not in control(sandbox.url, name).text


def test_an_empty_key_is_never_right(sandbox: Sandbox) -> None:
    assert identify(sandbox.url, user(1), key="").text == "invalid_api_key"


def test_too_much_is_a_413() -> None:
    with running_sandbox(SandboxOptions(max_identifications=3, max_bytes=2000)) as sandbox:
        assert identify(sandbox.url, [user(n) for n in range(3)]).status == 200
        many = identify(sandbox.url, [user(n) for n in range(4)])
        big = identify(sandbox.url, user(1, text="x" * 2000))
        verdicts = [judge(reply.status, {}, b"", key="abc") for reply in (many, big)]
        assert verdicts == [Refused(413, ""), Refused(413, "")]


def test_the_same_user_twice_in_one_request_is_throttled(sandbox: Sandbox) -> None:
    identify(sandbox.url, {"user_id": "user-1", "device_id": "device-1"})
    for twice in ({"user_id": " user-1 "}, {"device_id": "device-1"}):
        reply = identify(sandbox.url, [user(1, a=1), user(2, a=1), twice])
        assert reply.json["throttled_users"] == ["user-1"]
        assert reply.status == 429
    assert sandbox.stats.repeated_users == 2
    assert "user-2" not in sandbox.profiles.users


def test_poison_refuses_every_request_that_holds_it() -> None:
    options = SandboxOptions(
        poison_users=frozenset({"user-1"}), poison_texts=frozenset({"<script>"}), poison_status=403
    )
    with running_sandbox(options) as sandbox:
        replies = [
            identify(sandbox.url, [user(1), user(2)]),
            identify(sandbox.url, [user(2, a="<script>")]),
            identify(sandbox.url, [user(2, a="script")]),
        ]
    assert [reply.status for reply in replies] == [403, 403, 200]
    assert isinstance(judge(403, {}, replies[0].text.encode(), key="abc"), Refused)


def test_unknown_keys_are_taken_and_counted(sandbox: Sandbox) -> None:
    assert identify(sandbox.url, {"user_id": "user-1", "insert_id": "x", "plan": 1}).status == 200
    assert sandbox.stats.unknown_keys == {"insert_id": 1, "plan": 1}


# --- limits ----------------------------------------------------------------------------------------------


def test_requests_above_the_rate_are_throttled_until_time_passes() -> None:
    clock = HandClock()
    with running_sandbox(SandboxOptions(requests_per_second=2, retry_after=15), clock=clock) as sandbox:
        replies = [identify(sandbox.url, user(n)) for n in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert isinstance(judge(429, replies[2].headers, b"", key="abc"), SlowDown)
        assert replies[2].headers["Retry-After"] == "15"
        clock.now += 0.5
        assert identify(sandbox.url, user(3)).status == 200


def test_identifications_above_the_rate_are_throttled() -> None:
    clock = HandClock()
    with running_sandbox(SandboxOptions(identifications_per_second=4), clock=clock) as sandbox:
        assert [identify(sandbox.url, [user(n), user(n + 1)]).status for n in (1, 3, 5)] == [200, 200, 429]
        clock.now += 0.5
        assert identify(sandbox.url, [user(5), user(6)]).status == 200


def test_one_quick_user_is_named_and_holds_up_its_request() -> None:
    clock = HandClock()
    options = SandboxOptions(user_updates_per_second=0.5, user_window=4)
    with running_sandbox(options, clock=clock) as sandbox:
        assert [identify(sandbox.url, user(1, n=n)).status for n in range(3)] == [200, 200, 429]
        reply = identify(sandbox.url, [user(1, n=9), user(2)])
        assert reply.json["throttled_users"] == ["user-1"]
        assert identify(sandbox.url, user(2)).status == 200
        clock.now += 4
        assert identify(sandbox.url, user(1, n=10)).status == 200


def test_updates_above_the_hourly_limit_are_dropped_in_silence() -> None:
    clock = HandClock()
    with running_sandbox(SandboxOptions(user_updates_per_hour=2), clock=clock) as sandbox:
        assert [identify(sandbox.url, user(1, n=n)).text for n in range(3)] == ["success"] * 3
        assert sandbox.profiles.users["user-1"].properties == {"n": 1}
        assert sandbox.stats.dropped_updates == 1
        clock.now += 3600
        identify(sandbox.url, user(1, n=3))
        assert sandbox.profiles.users["user-1"].properties == {"n": 3}


def test_a_hot_user_is_throttled_always_or_for_some_tries() -> None:
    with running_sandbox(SandboxOptions(hot_users=frozenset({"user-1"}), hot_tries=2)) as sandbox:
        assert [identify(sandbox.url, [user(1), user(2)]).status for _ in range(3)] == [429, 429, 200]
        sandbox.change(hot_tries=None)
        assert {identify(sandbox.url, user(1)).status for _ in range(5)} == {429}
        assert identify(sandbox.url, user(2)).status == 200


# --- reading back ----------------------------------------------------------------------------------------


def test_the_profile_api_wants_the_secret_key() -> None:
    with running_sandbox(SandboxOptions(secret_keys=frozenset({"right"}))) as sandbox:
        identify(sandbox.url, user(1))
        query = {"user_id": "user-1"}
        for authorization in ("", "Api-Key", "Api-Key wrong", "Bearer right"):
            assert read_back(sandbox.url, query, authorization=authorization).status == 401
        assert read_back(sandbox.url, query, authorization="Api-Key right").status == 200


def test_the_profile_api_finds_users_by_their_device_and_says_what_it_misses(sandbox: Sandbox) -> None:
    identify(sandbox.url, {"user_id": "user-1", "device_id": "device-1", "user_properties": {"a": 1}})
    told = read_back(sandbox.url, {"device_id": "device-1"}).json["userData"]
    assert (told["user_id"], told["device_ids"], told["amp_props"]) == ("user-1", ["device-1"], {"a": 1})
    missing = read_back(sandbox.url, {"user_id": "user-2"})
    assert (missing.status, missing.json["code"]) == (404, 404)
    assert read_back(sandbox.url, {}).status == 400
    bare = read_back(sandbox.url, {"user_id": "user-1", "get_amp_props": "false"})
    assert bare.json["userData"]["amp_props"] is None


def test_reads_have_a_limit_of_their_own() -> None:
    with running_sandbox(SandboxOptions(reads_per_minute=60), clock=HandClock()) as sandbox:
        identify(sandbox.url, user(1))
        assert [read_back(sandbox.url, {"user_id": "user-1"}).status for _ in range(2)] == [200, 429]


# --- faults ----------------------------------------------------------------------------------------------


def with_fault(fault: str) -> SandboxOptions:
    return SandboxOptions(faults=(parse_fault(fault),), record=True)


@each_row("status", [400, 403, 413, 429, 500, 503, 599])
@each_row("moment", ["before", "after"])
def test_a_status_fault_answers_so_and_applies_as_told(status: int, moment: str) -> None:
    with running_sandbox(with_fault(f"{status}-{moment}:1")) as sandbox:
        assert identify(sandbox.url, user(1)).status == status
        assert len(sandbox.profiles) == (moment == "after")
        assert sandbox.requests[0].applied == (moment == "after")
        assert sandbox.stats.faults == {f"{status}-{moment}": 1}


@pytest.mark.parametrize(("moment", "applied"), [("before", 0), ("after", 1)])
def test_a_reset_breaks_the_connection(moment: str, applied: int) -> None:
    with running_sandbox(with_fault(f"reset-{moment}:1")) as sandbox:
        with pytest.raises(ConnectionResetError) as caught:
            identify(sandbox.url, user(1))
        assert not isinstance(caught.value, http.client.RemoteDisconnected)  # an orderly end
        assert len(sandbox.profiles) == applied
        assert (sandbox.requests[0].status, sandbox.requests[0].fault) == (None, f"reset-{moment}")


def test_a_truncated_answer_ends_early_and_was_applied() -> None:
    with running_sandbox(with_fault("truncate:1")) as sandbox:
        with pytest.raises(http.client.IncompleteRead):
            identify(sandbox.url, user(1))
        assert len(sandbox.profiles) == 1


def test_html_and_oversized_answers_are_bad_gateways() -> None:
    with running_sandbox(with_fault("html:1")) as sandbox:
        page = identify(sandbox.url, user(1))
        assert page.headers["Content-Type"].startswith("text/html")
        sandbox.change(faults=["oversized:1"])
        huge = identify(sandbox.url, user(1))
        assert len(huge.text) == OVERSIZED_BYTES
        for reply in (page, huge):
            assert isinstance(judge(reply.status, {}, reply.text.encode(), key="abc"), TryAgain)


@pytest.mark.parametrize("kind", ["empty", "portal"])
def test_what_others_say_with_a_200_is_no_success_and_nothing_was_applied(kind: str) -> None:
    with running_sandbox(with_fault(f"{kind}:1")) as sandbox:
        reply = identify(sandbox.url, user(1))
        assert reply.status == 200
        assert isinstance(judge(200, {}, reply.text.encode(), key="abc"), TryAgain)
        assert not len(sandbox.profiles)
        sandbox.change(faults=[f"{kind}-after:1"])
        identify(sandbox.url, user(1))
        assert len(sandbox.profiles) == 1


def test_a_stall_answers_nothing_and_ends_with_its_client_or_with_the_sandbox() -> None:
    async def stall(url: str, seconds: float) -> None:
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await session.post(url + "/identify", data={"api_key": "abc", "identification": "[]"})

    async def scenario() -> float:
        async with Sandbox(with_fault("stall:1")) as sandbox:
            with pytest.raises(TimeoutError):
                await stall(sandbox.url, 0.1)
            hanging = asyncio.create_task(stall(sandbox.url, 60))
            await asyncio.sleep(0.1)
            left = time.monotonic()
        with pytest.raises(aiohttp.ClientError):
            await hanging
        return time.monotonic() - left

    assert asyncio.run(scenario()) < 30


def test_the_same_seed_and_requests_meet_the_same_faults_over_http() -> None:
    def statuses() -> list[int]:
        options = SandboxOptions(faults=(parse_fault("503:0.5"),), seed=3)
        with running_sandbox(options) as sandbox:
            return [identify(sandbox.url, user(n)).status for n in range(30)]

    first = statuses()
    assert set(first) == {200, 503}
    assert statuses() == first


def test_an_outage_stops_every_path_but_the_sandboxs_own(sandbox: Sandbox) -> None:
    sandbox.begin_outage()
    with pytest.raises(ConnectionError):
        identify(sandbox.url, user(1))
    with pytest.raises(ConnectionError):
        read_back(sandbox.url, {"user_id": "user-1"})
    assert control(sandbox.url, "stats").json["faults"] == {"reset-before": 1}
    sandbox.begin_outage("503")
    assert identify(sandbox.url, user(1)).status == 503
    sandbox.end_outage()
    assert identify(sandbox.url, user(1)).status == 200


def test_latency_holds_back_the_answer_by_the_given_seconds() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with running_sandbox(SandboxOptions(latency=0.08), sleep=sleep) as sandbox:
        identify(sandbox.url, user(1))
    assert waits == [0.08]


def test_a_client_that_dies_doesnt_take_its_request_back(caplog: pytest.LogCaptureFixture) -> None:
    options = SandboxOptions(latency=0.2)
    with running_sandbox(options) as sandbox:
        connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"))
        body = urlencode({"api_key": "abc", "identification": json.dumps(user(1))})
        connection.request("POST", "/identify", body, {"Content-Type": FORM})
        time.sleep(0.1)
        connection.close()
        connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"))
        connection.putrequest("POST", "/identify")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"api_key=")
        connection.close()
        deadline = time.monotonic() + 30
        while len(sandbox.profiles) == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(sandbox.profiles.users) == ["user-1"]
        assert identify(sandbox.url, user(2)).status == 200
        assert sandbox.stats.requests == 2
    assert caplog.records == []


# --- order -----------------------------------------------------------------------------------------------


def together(groups: list[list[int]], latency: float) -> int:
    async def scenario() -> int:
        async with Sandbox(SandboxOptions(latency=latency)) as sandbox, aiohttp.ClientSession() as session:

            async def send(numbers: list[int]) -> None:
                form = {"api_key": "abc", "identification": json.dumps([user(n) for n in numbers])}
                async with session.post(sandbox.url + "/identify", data=form) as response:
                    assert await response.text() == "success"

            await asyncio.gather(*map(send, groups))
            return sandbox.stats.concurrent_users

    return asyncio.run(scenario())


@pytest.mark.parametrize("latency", [0.0, 0.02])
def test_users_in_two_requests_at_once_are_counted(latency: float) -> None:
    assert together([[1, 2, 3], [2, 3, 4]], latency) == 2
    assert together([[1, 2, 3], [4, 5, 6]], latency) == 0


def test_one_request_after_the_other_is_no_violation(sandbox: Sandbox) -> None:
    for _ in range(5):
        identify(sandbox.url, [user(1), user(2)])
    assert sandbox.stats.concurrent_users == 0


# --- the sandbox's own paths -----------------------------------------------------------------------------


def test_stats_count_what_came(sandbox: Sandbox) -> None:
    replies = [identify(sandbox.url, one) for one in ([user(1), user(2)], [user(3)], "nonsense")]
    read_back(sandbox.url, {"user_id": "user-1"})
    told = control(sandbox.url, "stats").json
    assert [reply.status for reply in replies] == [200, 200, 400]
    assert (told["requests"], told["accepted"], told["identifications"], told["reads"]) == (3, 2, 3, 1)
    assert told["statuses"] == {"200": 2, "400": 1}
    assert told["bytes"] == sum(entry.size for entry in sandbox.requests)


def test_profiles_and_requests_are_shown_and_forgotten(sandbox: Sandbox) -> None:
    identify(sandbox.url, [user(1, a=1), {"device_id": "device-1"}])
    profiles = control(sandbox.url, "profiles").json
    assert profiles["users"]["user-1"]["amp_props"] == {"a": 1}
    assert profiles["devices"]["device-1"]["user_id"] is None
    (entry,) = control(sandbox.url, "requests").json
    assert (entry["identifications"], entry["users"], entry["status"], entry["applied"]) == (2, 2, 200, True)
    assert control(sandbox.url, "reset", {}).status == 200
    assert control(sandbox.url, "profiles").json == {"users": {}, "devices": {}}
    assert control(sandbox.url, "requests").json == []
    assert control(sandbox.url, "stats").json["requests"] == 0


def test_behaviour_changes_while_it_runs_and_profiles_stay(sandbox: Sandbox) -> None:
    identify(sandbox.url, user(1, a=1))
    changed = control(sandbox.url, "faults", {"faults": ["503:1"], "retry_after": 2}).json
    assert (changed["faults"], changed["retry_after"]) == (["503:1"], 2.0)
    assert identify(sandbox.url, user(1, a=2)).status == 503
    control(sandbox.url, "faults", {"faults": [], "outage": "429"})
    assert identify(sandbox.url, user(1, a=2)).headers["Retry-After"] == "2"
    control(sandbox.url, "faults", {"outage": None})
    assert read_back(sandbox.url, {"user_id": "user-1"}).json["userData"]["amp_props"] == {"a": 1}


@pytest.mark.parametrize(
    "wrong", ["[]", "{", '{"sped": 1}', '{"latency": 1, "faults": ["200:1"]}', '{"outage": 503}']
)
def test_a_wrong_change_says_so_and_changes_nothing(sandbox: Sandbox, wrong: str) -> None:
    before = control(sandbox.url, "faults").json
    reply: Reply = call(sandbox.url, "POST", "/_sandbox/faults", wrong.encode())
    assert reply.status == 400
    assert reply.json["error"]
    assert control(sandbox.url, "faults").json == before


def test_a_sink_takes_anything_and_keeps_counts_only() -> None:
    with running_sandbox(SandboxOptions(sink=True)) as sandbox:
        body = b"x" * 300_000
        reply = call(sandbox.url, "POST", "/identify", body, {"Content-Type": FORM})
        assert judge(reply.status, {}, reply.text.encode(), key="") == Accepted()
        assert reply.text == "success"
        assert (sandbox.stats.accepted, sandbox.stats.bytes, len(sandbox.profiles)) == (1, 300_000, 0)
