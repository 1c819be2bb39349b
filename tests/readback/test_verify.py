"""`verify` against a sandbox to which a job was run, and which others may have changed since."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl import Job, run, verify
from etl.amplitude.requests import PROFILE_URL, profile_endpoint
from etl.errors import DestinationError, SourceError, UsageError
from etl.readback import Verified, verify_job
from etl.readback.user_sample import UserSample
from etl.reader import open_source
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from etl.sender import Backoff, Clock
from etl.text import columns
from tests.commands import KEY, Propsync
from tests.examples import examples
from tests.sandbox.client import identify

SECRET = "amplSecret0123456789neverSeen"
EVEN_FASTER = 1e9
QUICK = Backoff(retry=0.01, throttle=0.01, longest=0.02)


def job_of(folder: Path, identification: object = None, **more: object) -> Job:
    usual = {"user_id": "id", "user_properties": {"plan": "plan", "score": "score"}}
    return Job.of({"name": "job", "identification": identification or usual, **more}, folder=folder)


def users(count: int) -> pa.Table:
    ids = [f"user-{number:06}" for number in range(count)]
    return pa.table({"id": ids, "plan": [f"p{n % 7}" for n in range(count)], "score": list(range(count))})


def read(job: Job, table: object, url: str, **options: Any) -> Verified:
    given: dict[str, Any] = {"rate": EVEN_FASTER, "settle": 0.0, "waits": QUICK, "seed": 1, **options}
    return verify_job(job, open_source([table]), SECRET, endpoint=url, **given)


def test_nothing_differs_after_a_run(tmp_path: Path, sandbox: Sandbox) -> None:
    job, table = job_of(tmp_path), users(300)
    run(job, table, key=KEY, endpoint=sandbox.url, rate=None)
    found = read(job, table, sandbox.url, sample=50)
    assert (found.sample, found.right, found.wrong, found.rows) == (50, 50, 0, 300)
    assert (found.differences, found.not_compared, found.properties) == ([], {}, 100)
    assert found.right_at_least == pytest.approx(0.05 ** (1 / 50))
    assert not found.complete
    assert read(job, table, sandbox.url).complete
    by_library = verify(job, table, secret_key=SECRET, sample=1, settle=0, endpoint=sandbox.url)
    assert (by_library.right, by_library.wrong) == (1, 0)


@pytest.mark.timeout(900)  # all examples are 200,000 reads
def test_whatever_another_client_changed_is_found_if_it_is_in_the_sample(tmp_path: Path) -> None:
    """1 % of the users; each seed takes another sample."""
    count, size, seeds = (20_000, 2_000, 100) if examples(100, 2) == 100 else (4_000, 300, 2)
    job, table, overstated = job_of(tmp_path), users(count), 0
    with running_sandbox() as sandbox:
        run(job, table, key=KEY, endpoint=sandbox.url, rate=None)
        chosen = random.Random(5).sample(range(count), count // 100)
        names = {f"user-{number:06}" for number in chosen}
        for place, name in enumerate(sorted(names)):
            profile = sandbox.profiles.users[name].properties
            if place % 3 == 0:
                identify(sandbox.url, {"user_id": name, "user_properties": {"plan": "tampered"}})
            elif place % 3 == 1:
                identify(sandbox.url, {"user_id": name, "user_properties": {"$unset": {"plan": "-"}}})
            else:
                identify(sandbox.url, {"user_id": name, "user_properties": {"score": str(profile["score"])}})
        for seed in range(seeds):
            sample = UserSample(size, seed)
            sample.add(pa.record_batch({"user_id": table["id"].combine_chunks()}), None)
            there = names & {user.name for user in sample.users}
            assert there
            found = read(job, table, sandbox.url, sample=size, seed=seed)
            assert {one.user for one in found.differences} == there
            assert found.wrong == len(there) == found.sample - found.right
            overstated += found.right_at_least > 0.99
            assert {one.kind for one in found.differences} <= {
                "other_value",
                "missing_property",
                "other_type",
            }
    assert overstated <= 0.05 * seeds + 3 * math.sqrt(0.05 * 0.95 * seeds)


def test_every_change_of_a_sampled_user_is_found(tmp_path: Path, sandbox: Sandbox) -> None:
    """The sample being all users: exactly those that were changed differ."""
    job, table = job_of(tmp_path), users(200)
    run(job, table, key=KEY, endpoint=sandbox.url, rate=None)
    del sandbox.profiles.users["user-000003"]
    sandbox.profiles.apply({"user_id": "user-000005", "user_properties": {"plan": 7}})
    found = read(job, table, sandbox.url, sample=1000)
    assert {(one.user, one.property, one.kind) for one in found.differences} == {
        ("user-000003", "", "missing_user"),
        ("user-000005", "plan", "other_type"),
    }
    assert (found.right, found.wrong) == (198, 2)


ODD_IDS = ["a b+c%2B&d=e", "ünïcödé", "slash/../x?#", "quote\"'<b>", "日本語テスト", "%00%zz;"]


@pytest.mark.parametrize("field", ["user_id", "device_id"])
def test_any_id_is_asked_for_as_it_is(tmp_path: Path, sandbox: Sandbox, field: str) -> None:
    job = job_of(tmp_path, {field: "id", "user_properties": {"plan": "plan"}})
    table = pa.table({"id": ODD_IDS, "plan": ODD_IDS})
    run(job, table, key=KEY, endpoint=sandbox.url, rate=None)
    assert read(job, table, sandbox.url).right == len(ODD_IDS)


def test_rows_of_devices_alone_never_make_a_user_wrong(tmp_path: Path, sandbox: Sandbox) -> None:
    """A device that was linked before the export: its row changes the user, who has a row of its own."""
    for number in range(2):
        identify(sandbox.url, {"user_id": f"user-{number}", "device_id": f"device-{number}"})
    job = job_of(tmp_path, {"user_id": "id", "device_id": "device", "user_properties": {"plan": "plan"}})
    rows = [
        ("user-0", None, "a"),
        (None, "device-0", "b"),
        ("user-1", "device-1", "a"),
        (None, "device-9", "c"),
    ]
    ids, devices, plans = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({"id": ids, "device": devices, "plan": plans})
    run(job, table, key=KEY, endpoint=sandbox.url, rate=None, batch_size=1, concurrency=1)
    found = read(job, table, sandbox.url)
    assert (found.sample, found.right, found.wrong, set(found.not_compared)) == (
        4, 3, 0, {"rows that name only a device may be about this user, too"}
    )  # fmt: skip
    for name, changed in (("user_id", "user-1"), ("device_id", "device-9")):
        sandbox.profiles.apply({name: changed, "user_properties": {"plan": "z"}})
    wrong = {one.user for one in read(job, table, sandbox.url).differences}
    assert wrong == {"user-1", "device-9"}


def test_a_stream_is_read_once_and_an_export_without_users_is_an_error(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    job, table = job_of(tmp_path), users(30)
    run(job, table, key=KEY, endpoint=sandbox.url, rate=None)
    assert read(job, iter(table.to_batches(max_chunksize=7)), sandbox.url).right == 30
    with pytest.raises(SourceError, match="no user to read back"):
        read(job, users(0), sandbox.url)


# --- the destination -------------------------------------------------------------------------------------


def test_throttling_and_outages_are_waited_for(tmp_path: Path) -> None:
    job, table = job_of(tmp_path), users(40)
    with running_sandbox(SandboxOptions(reads_per_minute=600, retry_after=0.01)) as sandbox:
        run(job, table, key=KEY, endpoint=sandbox.url, rate=None)
        assert read(job, table.slice(0, 20), sandbox.url).right == 20
        assert sandbox.stats.reads > 20  # some of them were throttled
        sandbox.change(reads_per_minute=None)
        sandbox.begin_outage("503", seconds=0.2)
        assert read(job, table, sandbox.url).right == 40
        sandbox.begin_outage("portal")
        clock = Clock(now=iter(range(10**9)).__next__, sleep=lambda _: asyncio.sleep(0))
        with pytest.raises(DestinationError, match="no user could be read back for 5 min"):
            read(job, table, sandbox.url, clock=clock)


def test_the_rate_is_kept(tmp_path: Path, sandbox: Sandbox) -> None:
    job, table = job_of(tmp_path), users(13)
    run(job, table, key=KEY, endpoint=sandbox.url, rate=None)
    began = time.monotonic()
    read(job, table, sandbox.url, rate=2400)
    assert time.monotonic() - began >= 12 * 60 / 2400 - 0.06


def test_a_refused_secret_key_is_named_and_never_shown(tmp_path: Path) -> None:
    job, table = job_of(tmp_path), users(3)
    with running_sandbox(SandboxOptions(secret_keys=frozenset({"another"}))) as sandbox:
        with pytest.raises(DestinationError, match="Invalid Api-Key") as error:
            read(job, table, sandbox.url)
        assert "secret key" in str(error.value.hint)
        assert SECRET not in str(error.value)


@contextmanager
def answering(status: int, body: str, seen: list[str] | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(f"{self.path} {self.headers}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


UNSEEN = '{"error":"User id and device id not seen before"}'


@pytest.mark.parametrize(
    ("status", "body", "missing"),
    [
        (200, UNSEEN, True),
        (400, UNSEEN, True),
        (404, UNSEEN, True),
        (404, "", False),
        (404, "<html><title>Not here</title></html>", False),
        (301, "", False),
        (403, "blocked", False),
        (400, "bad", False),
        (401, "Missing Api-Key in Authorization header", False),
    ],
)
def test_only_an_answer_that_says_so_means_that_a_user_is_missing(
    tmp_path: Path, status: int, body: str, missing: bool
) -> None:
    seen: list[str] = []
    with answering(status, body, seen) as url:
        if missing:
            found = read(job_of(tmp_path), users(2), url)
            assert [one.kind for one in found.differences] == ["missing_user"] * 2
            assert found.right_at_least == 0
        else:
            with pytest.raises(DestinationError):
                read(job_of(tmp_path), users(2), url)
    path, _, headers = seen[0].partition(" ")
    assert path.startswith("/v1/userprofile?user_id=user-00000")
    assert f"Authorization: Api-Key {SECRET}" in headers
    assert SECRET not in path


def test_amplitude_is_read_in_the_us_only() -> None:
    assert profile_endpoint("https://api2.amplitude.com") == PROFILE_URL
    for url in ("https://api.eu.amplitude.com", "https://API.eu.amplitude.com./"):  # a dot may end a name
        assert profile_endpoint(url) is None
    assert profile_endpoint("http://127.0.0.1:1") == "http://127.0.0.1:1"
    with pytest.raises(UsageError, match="EU"):
        verify(Job.of({"identification": {"user_id": "id"}}), users(1), secret_key="s", endpoint="eu")


# --- waiting until it shows ------------------------------------------------------------------------------


def test_what_was_just_sent_is_waited_for(tmp_path: Path, sandbox: Sandbox) -> None:
    job, table, slept, said = job_of(tmp_path), users(3), list[float](), list[str]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    def waited(**options: Any) -> float:
        slept.clear()
        said.clear()
        read(job, table, sandbox.url, clock=Clock(sleep=sleep), notify=said.append, **options)
        return sum(slept)

    assert waited(settle=60.0) < 1  # nothing was ever sent
    run(job, table, key=KEY, endpoint=sandbox.url, rate=None)
    assert 50 < waited(settle=60.0) <= 60
    assert said[0].endswith("rows were sent less than 1 min 00 s ago")
    assert waited(settle=0.0) < 1
    checkpoint = tmp_path / ".propsync" / "job" / "checkpoint.sqlite"
    os.utime(checkpoint, (time.time() - 70,) * 2)
    for _ in range(2):  # looking at it sends nothing
        assert waited(settle=60.0) < 1


def test_an_unfinished_run_is_named(tmp_path: Path) -> None:
    job, table, said = job_of(tmp_path), users(3), list[str]()
    with running_sandbox(SandboxOptions(poison_users=frozenset({"user-000001"}))) as sandbox:
        from etl import RejectLimit
        from etl.errors import TooManyRejectsError

        with pytest.raises(TooManyRejectsError):
            run(
                job, table, key=KEY, endpoint=sandbox.url, rate=None, batch_size=1, max_rejects=RejectLimit(0)
            )
        read(job, table, sandbox.url, notify=said.append)
    assert "isn't finished" in said[0]


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def exported(propsync: Propsync, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Propsync:
    monkeypatch.setenv("AMPLITUDE_SECRET_KEY", SECRET)
    (propsync.folder / "users.csv").write_text("id,plan\nuser-1,pro\nuser-2,free\nuser-1,team\n")
    text = "source: users.csv\nidentification: {user_id: id, user_properties: {plan: plan}}\n"
    (propsync.folder / "job.yml").write_text(f"{text}destination: {{region: '{sandbox.url}'}}\n")
    assert propsync("run", "job.yml").code == 0
    return propsync


def test_the_command_shows_what_it_proves(exported: Propsync, sandbox: Sandbox) -> None:
    done = exported("verify", "job.yml", "--settle", "0")
    assert done.code == 0
    assert "2 users of 3 rows read back" in done.out
    assert "These are all users of the source." in done.out
    done = exported("verify", "job.yml", "--settle", "0", "--sample", "1", "--seed", "3")
    assert "With 95 % confidence, at least 5.00 % of all users are right." in done.out
    assert "--seed 3" in done.out
    profile = sandbox.profiles.users["user-1"]
    profile.properties["plan"] = "\x1b[31m" + "日本" * 5000  # longer than what is stored
    sandbox.profiles.users["user-1"] = profile
    del sandbox.profiles.users["user-2"]
    done = exported("verify", "job.yml", "--settle", "0")
    assert done.code == 3
    assert max(map(columns, done.out.splitlines())) <= 80
    assert "\x1b" not in done.out
    assert "next event" in done.out
    assert SECRET not in done.out + done.err


def test_the_json_has_the_keys_that_scripts_rely_on(exported: Propsync, sandbox: Sandbox) -> None:
    sandbox.profiles.apply({"user_id": "user-1", "user_properties": {"plan": "pro"}})
    done = exported("verify", "job.yml", "--settle", "0", "--json")
    assert done.code == 3
    found = done.summary
    assert (found["sample"], found["right"], found["wrong"], found["confidence"]) == (2, 1, 1, 0.95)
    assert 0 < found["right_at_least"] < 0.1
    assert found["differences"] == [
        {"user": "user-1", "property": "plan", "expected": "team", "found": "pro", "kind": "older_value"}
    ]
    assert found["not_compared"] == {}
    assert json.dumps(found).count(SECRET) == 0


def test_options_of_run_in_the_job_file_count_but_for_its_rate(exported: Propsync, sandbox: Sandbox) -> None:
    text = (exported.folder / "job.yml").read_text().replace(sandbox.url, "http://127.0.0.1:9")
    run_options = f"run: {{rate: max, endpoint: '{sandbox.url}', state_dir: here, max_rejects: 1%}}\n"
    (exported.folder / "job.yml").write_text(text + run_options)
    assert exported("verify", "job.yml", "--settle", "0").code == 0
    assert exported("run", "job.yml").code == 0
    done = exported("verify", "job.yml", "--settle", "300ms")
    assert "waiting" in done.err
    assert exported("probe", "job.yml").out == f"job: the API key works at {sandbox.url}\n"


@pytest.mark.parametrize(
    ("destination", "environment", "code", "message"),
    [
        ("", None, 2, "there is no secret key: the environment variable AMPLITUDE_SECRET_KEY is not set"),
        ("secret_key_env: OURS", None, 2, "the environment variable OURS is not set"),
        ("secret_key_file: no.key", None, 2, "no.key can't be read"),
        ("secret_key_file: a\n  secret_key_env: B", None, 2, "exclude each other"),
        ("secret_key_file: our.key", None, 0, ""),
        ("secret_key_env: OURS", "OURS", 0, ""),
        ("region: eu", "AMPLITUDE_SECRET_KEY", 2, "EU region"),
        ("region: eu", None, 2, "EU region"),  # nobody is sent to fetch a key that is of no use
    ],
)
def test_where_the_secret_key_is(
    exported: Propsync,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    destination: str,
    environment: str | None,
    code: int,
    message: str,
) -> None:
    monkeypatch.delenv("AMPLITUDE_SECRET_KEY")
    if environment:
        monkeypatch.setenv(environment, SECRET)
    (exported.folder / "our.key").write_text(f"{SECRET}\n")
    text = (exported.folder / "job.yml").read_text().partition("destination")[0]
    (exported.folder / "job.yml").write_text(f"{text}destination:\n  {destination}\n")
    endpoint = () if destination == "region: eu" else ("--endpoint", sandbox.url)
    done = exported("verify", "job.yml", "--settle", "0", *endpoint)
    assert done.code == code, done.err
    assert message in done.err
