"""What a server did not mean is never taken for what it meant: whatever stands between us and Amplitude."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.acceptance import exports
from tests.acceptance.standing_in import StandIn, failing_handshakes, standing_in, taking
from tests.commands import KEY, QUICK, Finished, Propsync
from tests.examples import combinations
from tests.serving import Reply

BATCH = "destination: {transport: batch}\n"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with standing_in() as running:
        yield running


def write(folder: Path, rows: int, more: str = "") -> Path:
    exports.write_csv(folder / "users.csv", rows)
    return exports.write_job(folder, exports.JOB + more, source="users.csv")


def send(propsync: Propsync, server: StandIn, job: Path, *flags: str) -> Finished:
    return propsync("run", job, "--endpoint", server.url, *QUICK, "--json", *flags)


PAGE = b"<html><head><title>Sign in</title></head><body>...</body></html>"


BODIES = [
    (b"", ""),
    (PAGE, ""),
    (gzip.compress(PAGE, mtime=0), "gzip"),
    (b"success", "gzip"),
    (b"invalid_api_key", ""),
    (b'{"code":400,"error":"no"}', ""),
    (b"queued", ""),
]


@pytest.mark.parametrize(("answer", "transport"), combinations(BODIES, ["identify", "batch"]))
def test_a_200_that_does_not_say_so_is_no_acceptance_and_the_next_run_sends_all(
    propsync: Propsync, server: StandIn, tmp_path: Path, answer: tuple[bytes, str], transport: str
) -> None:
    body, encoding = answer
    job = write(tmp_path, 2, f"destination: {{transport: {transport}}}\n")
    server.says(200, body, **({"Content_Encoding": encoding} if encoding else {}))
    night = send(propsync, server, job, "--max-outage", "0.1s")
    assert night.code == 5
    assert night.summary["accepted"] == night.summary["rejected"] == 0
    assert "no usable answer: 200 with " in night.err
    assert "such as a proxy or a portal; then run the same command again" in " ".join(night.err.split())
    assert "<" not in night.err
    server.answer = taking
    assert send(propsync, server, job).code == 0
    assert sorted(server.taken) == ["user-000001", "user-000002"]


@pytest.mark.parametrize("headers", [{}, {"Content_Encoding": "gzip"}])
def test_a_refused_key_in_gzip_costs_one_request(
    propsync: Propsync, server: StandIn, tmp_path: Path, headers: dict[str, str]
) -> None:
    server.says(400, gzip.compress(b"invalid_api_key"), **headers)
    night = send(propsync, server, write(tmp_path, 50))
    assert (night.code, len(server.times)) == (5, 1)
    assert "refuses the API key: 400 invalid_api_key" in night.err


REFUSALS = [(403, PAGE), (400, b"no"), (413, b"large")]
PACES: list[tuple[str, ...]] = [(), ("--rate", "1000")]
TRANSPORT_RULES = ["identify", "batch"]
# Of all combinations each answer by each transport, and each pace.
FEW = {(403, "identify", 1), (403, "batch", 0), (400, "identify", 0), (400, "batch", 1)}
FEW |= {(413, "identify", 1), (413, "batch", 0)}


@pytest.mark.parametrize(
    ("status", "body", "pace", "transport"),
    [
        pytest.param(
            *refusal,
            pace,
            transport,
            marks=() if (refusal[0], transport, len(pace) // 2) in FEW else pytest.mark.soak,
        )
        for refusal, pace, transport in product(REFUSALS, PACES, TRANSPORT_RULES)
    ],
)
def test_who_is_refused_everything_stops_cheaply_and_can_go_on(
    propsync: Propsync,
    server: StandIn,
    tmp_path: Path,
    status: int,
    body: bytes,
    pace: tuple[str, ...],
    transport: str,
) -> None:
    job = write(tmp_path, 600, f"destination: {{transport: {transport}}}\n")
    server.says(status, body)
    night = send(propsync, server, job, "--batch-size", "30", *pace)
    assert night.code == 5
    assert len(server.times) <= 60
    assert night.summary["rows"] == 0
    assert (tmp_path / ".propsync" / "job" / "rejects.ndjson").read_bytes() == b""
    assert f"were answered {status} " in night.err
    assert "users.csv row " in night.err
    assert "<html>" not in night.err
    server.answer = taking
    again = send(propsync, server, job, "--batch-size", "30")
    assert again.code == 0
    assert len(server.taken) == again.summary["accepted"] == 600


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"code": 200, "events_ingested": 0}, "counted 0 of 2 events"),
        ({"code": 200}, "without a count (events_ingested) of the 2 events"),
    ],
)
def test_events_that_were_not_counted_are_rejects_and_sent_the_next_night(
    propsync: Propsync, server: StandIn, tmp_path: Path, told: dict[str, int], reason: str
) -> None:
    job = write(tmp_path, 2, BATCH)
    server.says(200, json.dumps(told).encode())
    night = send(propsync, server, job)
    assert night.code == 3
    assert night.summary["rejects_by_code"] == {"uncounted": 2}
    assert night.summary["uncounted"] == 2
    rejects = (tmp_path / ".propsync" / "job" / "rejects.ndjson").read_text().splitlines()
    assert [json.loads(line)["row"] for line in rejects] == [1, 2]
    assert all(json.loads(line)["reason"].endswith(reason) for line in rejects)
    assert "the server said it took 2 events that it did not count" in night.err
    server.answer = taking
    assert send(propsync, server, job).code == 0
    assert sorted(server.taken) == ["user-000001", "user-000002"]
    assert send(propsync, server, job).summary["unchanged"] == 2


def test_a_pause_that_the_server_asks_for_ends_with_the_outage(
    propsync: Propsync, server: StandIn, tmp_path: Path
) -> None:
    server.says(429, b"slow", Retry_After="3600")
    night = send(propsync, server, write(tmp_path, 2), "--max-outage", "0.5s")
    assert night.code == 5
    assert 0.5 <= night.summary["seconds"] < 60
    assert "Retry-After: 3600" in night.err
    assert "asked to wait 1 h 00 min" in night.err


def test_an_outage_is_told_in_one_line_with_attempt_status_and_time_left(
    propsync: Propsync, server: StandIn, tmp_path: Path
) -> None:
    server.says(503)
    night = send(propsync, server, write(tmp_path, 2), "--max-outage", "0.5s", "--log-format", "json")
    lines = [json.loads(line) for line in night.err.splitlines()]
    (paused,) = [line for line in lines if line["event"] == "paused"]
    assert (paused["reason"], paused["status"], paused["attempt"]) == ("503", 503, 1)
    assert paused["seconds_left"] == 0.5
    assert len(server.times) > 3


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (202, {}, "202"),
        (204, {}, "204"),
        (
            302,
            {"Location": "https://me:pw@portal.example/in?token=t"},
            "302, a redirect to https://portal.example/in",
        ),
        (404, {}, "404"),
        (407, {}, "407"),
    ],
)
def test_an_answer_that_amplitude_never_gives_stops_the_run_without_blaming_the_key(
    propsync: Propsync, server: StandIn, tmp_path: Path, status: int, headers: dict[str, str], words: str
) -> None:
    server.says(status, PAGE if status != 204 else b"", **headers)
    night = send(propsync, server, write(tmp_path, 2))
    assert (night.code, len(server.times)) == (5, 1)
    assert words in night.err
    assert "key" not in night.err.replace(".pem", "").lower()
    assert "<" not in night.err


@pytest.mark.parametrize("status", [401, 429])
def test_an_empty_answer_still_has_its_status(
    propsync: Propsync, server: StandIn, tmp_path: Path, status: int
) -> None:
    server.says(status)
    night = send(propsync, server, write(tmp_path, 2), "--max-outage", "0.1s")
    assert night.code == 5
    assert f": {status}" in night.err.splitlines()[-2]


def test_a_connection_that_fails_is_told_in_plain_words(propsync: Propsync, tmp_path: Path) -> None:
    with standing_in() as gone:
        pass
    night = send(propsync, gone, write(tmp_path, 2), "--max-outage", "0.1s")
    assert night.code == 5
    assert "no connection to 127.0.0.1: connection refused" in night.err
    assert "ssl:" not in night.err
    assert "Errno" not in night.err
    assert night.summary["bytes"] == night.summary["in_doubt"] == 0
    assert night.summary["requests"] > 0


@pytest.mark.parametrize(
    "quoting",
    [
        "invalid property value: {}",
        "plan:\n{}\nis not a plan",
        '{{"code":400,"error":"bad value","value":"{}"}}',
        '{{"code":400,"error":"bad value: {}"}}',
    ],
)
def test_a_row_that_speaks_of_the_key_costs_itself(
    propsync: Propsync, server: StandIn, tmp_path: Path, quoting: str
) -> None:
    words = "Invalid API key"

    def answer(path: str, users: list[dict[str, Any]]) -> Reply:
        bad = [user for user in users if user["user_properties"]["$set"]["plan"] == words]
        return (400, quoting.format(words).encode(), {}) if bad else taking(path, users)

    server.answer = answer
    job = write(tmp_path, 200)
    text = (tmp_path / "users.csv").read_text().splitlines()
    text[171] = f"user-000171,{words},1"
    (tmp_path / "users.csv").write_text("\n".join(text) + "\n")
    night = send(propsync, server, job, "--batch-size", "50")
    assert night.code == 3
    assert night.summary["accepted"] == 199
    assert night.summary["rejects_by_code"] == {"malformed": 1}


# --- trust in the status ---------------------------------------------------------------------------------


def test_a_relay_of_one_s_own_may_be_trusted_by_its_status(
    propsync: Propsync, server: StandIn, tmp_path: Path
) -> None:
    job = write(tmp_path, 2, f"destination: {{region: '{server.url}', trust_status: true}}\n")
    server.says(204)
    night = propsync("run", job, *QUICK, "--json")
    assert night.code == 0
    assert night.summary["accepted"] == 2


@pytest.mark.parametrize(
    "region", ["us", "eu", "https://api2.amplitude.com", "https://API.EU.amplitude.com/"]
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_amplitude_itself_is_not(propsync: Propsync, tmp_path: Path, region: str, command: str) -> None:
    job = write(tmp_path, 2, f"destination:\n  region: {region}\n  trust_status: true\n")
    night = propsync(command, job)
    assert night.code == 2
    assert "job.yml:9: `trust_status` is for a relay of your own" in night.err
    assert not (tmp_path / ".propsync").exists()


def test_which_of_them_it_is_is_seen_after_the_command_line(
    propsync: Propsync, server: StandIn, tmp_path: Path
) -> None:
    job = write(tmp_path, 2, "destination: {trust_status: true}\n")
    server.says(202, b"queued")
    assert send(propsync, server, job).code == 0
    own = write(tmp_path, 2, f"destination: {{region: '{server.url}', trust_status: true}}\n")
    assert propsync("run", own, "--endpoint", "https://api2.amplitude.com").code == 2


# --- TLS and proxies -------------------------------------------------------------------------------------


def test_a_handshake_that_fails_now_and_then_is_tried_again(
    propsync: Propsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(client)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", client)
    with failing_handshakes(context, every=3) as server:
        night = send(propsync, server, write(tmp_path, 2000), "--batch-size", "100")
    assert night.code == 0
    assert night.summary["accepted"] == len(server.taken) == 2000
    assert night.summary["retries"] > 0
    assert night.summary["in_doubt"] == 0


def test_a_company_s_certificates_are_trusted_where_ssl_cert_file_names_them(
    propsync: Propsync, tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "company.pem"))
    with failing_handshakes(context, every=1 << 30) as server:
        command = ("run", write(tmp_path, 5), "--endpoint", server.url, *QUICK, "--json")
        refused = propsync.process(*command, full=True)
        trusted = propsync.process(*command, full=True, SSL_CERT_FILE=str(tmp_path / "company.pem"))
    assert refused.code == 5
    assert "set SSL_CERT_FILE" in refused.err
    assert trusted.code == 0
    assert trusted.summary["accepted"] == len(server.taken) == 5


@pytest.mark.parametrize("value", ["bob:s3cretpw@127.0.0.1:9", "http://bob:s3cretpw@127.0.0.1:9"])
def test_the_password_of_a_proxy_stands_nowhere(
    propsync: Propsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    files = ("--report", tmp_path / "r.html", "--metrics-file", tmp_path / "m.prom", "--log-format", "json")
    night = propsync("run", write(tmp_path, 2), *QUICK, "--max-outage", "0.1s", "--json", *files)
    assert night.code == 5
    assert "the proxy 127.0.0.1:9 of the variable HTTPS_PROXY: connection refused" in night.err
    assert night.summary["bytes"] == night.summary["in_doubt"] == 0
    assert "s3cretpw" not in night.out + night.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if b"s3cretpw" in path.read_bytes()]


@pytest.mark.parametrize(
    "value", ["https://bob:s3cretpw@127.0.0.1:9", "socks5://127.0.0.1:9", "127.0.0.1:99999"]
)
def test_a_proxy_that_cannot_be_used_ends_the_run_before_it_begins(
    propsync: Propsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    night = propsync("run", write(tmp_path, 2), *QUICK)
    assert night.code == 2
    assert "HTTPS_PROXY" in night.err
    assert "s3cretpw" not in night.err
    assert not (tmp_path / ".propsync").exists()


def test_a_fault_of_ours_would_not_show_it_either(
    propsync: Propsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"at http://bob:s3cretpw@proxy:1 with {KEY}")

    monkeypatch.setenv("HTTPS_PROXY", "http://bob:s3cretpw@127.0.0.1:9")
    monkeypatch.setattr("etl.pipeline.run.run_job", broken)
    night = propsync("run", write(tmp_path, 2))
    assert night.code == 1
    assert "s3cretpw" not in night.err
