"""`probe` finds exactly what a sandbox was told to do, within its bounds; and `run` keeps to it."""

from __future__ import annotations

import asyncio
import io
import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from etl import Job, plan, run
from etl.checkpoint.run_records import Capabilities, Finding
from etl.errors import DestinationError, UsageError
from etl.readback import probe_key, probe_limits
from etl.readback.sessions import MOST_BYTES, MOST_REQUESTS, PREFIX
from etl.run_events import Event, Noted, Warned
from etl.sandbox import Sandbox, SandboxOptions, make_options, running_sandbox
from etl.sender import Clock
from tests.commands import KEY, Propsync
from tests.examples import examples
from tests.sandbox.client import HandClock

SECRET = "amplSecret0123456789neverSeen"


def job_in(folder: Path, **destination: object) -> Job:
    folder.mkdir(exist_ok=True)
    identification = {"user_id": "id", "user_properties": {"plan": "plan"}}
    data = {"name": "job", "identification": identification, "destination": destination or {"region": "us"}}
    return Job.of(data, folder=folder)


class Hand:
    """The one clock of a sandbox and of a probe: it moves where the probe sleeps."""

    def __init__(self) -> None:
        self.hand = HandClock()
        self.clock = Clock(now=self.hand, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.hand.now += seconds
        await asyncio.sleep(0)


@contextmanager
def probed_sandbox(options: SandboxOptions) -> Iterator[tuple[Sandbox, Clock]]:
    hand = Hand()
    with running_sandbox(options, clock=hand.hand) as sandbox:
        yield sandbox, hand.clock


SETTINGS = st.fixed_dictionaries(
    {
        "max_bytes": st.one_of(st.integers(30, 1000).map(lambda n: n * 1000), st.just(1_048_576)),
        "max_identifications": st.one_of(st.integers(1, 3000), st.sampled_from([1000, 1024, 2000])),
        "identify_gzip": st.booleans(),
        "identify_min_id_length": st.booleans(),
        "identify_insert_id": st.sampled_from(["obey", "ignore", "refuse"]),
        "identify_time": st.sampled_from(["obey", "ignore", "refuse"]),
        "clear_all": st.sampled_from(["obey", "ignore", "refuse"]),
        "bad_item": st.sampled_from(["refuses_all", "refused_alone", "skipped"]),
        "cleared_by": st.sampled_from([None, "empty", "null"]),
        "user_window": st.sampled_from([5.0, 10.0, 30.0]),
        "user_updates_per_second": st.sampled_from([None, 5.0, 30.0]),
        "requests_per_second": st.sampled_from([None, 20.0]),
    }
)
MEANT = {"obey": "obeys", "ignore": "ignores", "refuse": "refuses"}


@given(told=SETTINGS)
@settings(
    max_examples=examples(60, 3),
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
def test_it_finds_what_the_sandbox_was_told(
    told: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("probe")
    options = make_options({**told, "retry_after": 1.0, "api_keys": [KEY], "secret_keys": [SECRET]})
    with probed_sandbox(options) as (sandbox, clock):
        known = probe_limits(job_in(folder), KEY, SECRET, endpoint=sandbox.url, clock=clock)
        stats, users = sandbox.stats, sandbox.profiles.users
    found = {name: finding.value for name, finding in known.findings.items()}
    assert stats.requests <= MOST_REQUESTS
    assert stats.bytes <= MOST_BYTES
    assert all(name.startswith(PREFIX) for name in users)
    assert found["bytes"] == told["max_bytes"]
    # A number of identifications takes 85 to 88 bytes each; more than fit can't be tried.
    assert found["identifications"] == told["max_identifications"] or (
        told["max_bytes"] // 88 - 30 < found["identifications"] < told["max_identifications"]
    )
    assert found["gzip"] == told["identify_gzip"]
    assert found["min_id_length"] == told["identify_min_id_length"]
    assert found["insert_id"] == MEANT[told["identify_insert_id"]]
    assert found["time"] == MEANT[told["identify_time"]]
    assert found["clear_all"] == MEANT[told["clear_all"]]
    assert found["bad_item"] == (told["bad_item"] if told["max_identifications"] > 1 else "refuses_all")
    assert found["clearing_field"] == (told["cleared_by"] or "nothing")
    rate = told["user_updates_per_second"]
    updates = rate and round(rate * told["user_window"])
    if rate is None or updates >= 60:
        assert found["user_window"] is None
    elif told["requests_per_second"] is None or updates < 20:
        assert found["user_window"] == {"updates": updates, "seconds": told["user_window"]}
    assert all(finding.evidence for finding in known.findings.values())
    assert KEY not in json.dumps(known.as_json())


@pytest.mark.parametrize(
    ("size", "least"),
    [
        (3_000_000, 2_000_000),
        *(pytest.param(n, n - 100_000, marks=pytest.mark.soak) for n in (1_500_000, 1_900_000)),
    ],
)
def test_a_large_limit_leaves_room_for_the_other_questions(tmp_path: Path, size: int, least: int) -> None:
    with probed_sandbox(SandboxOptions(max_bytes=size, max_identifications=9999)) as (sandbox, clock):
        known = probe_limits(job_in(tmp_path), KEY, SECRET, endpoint=sandbox.url, clock=clock)
        assert sandbox.stats.bytes <= MOST_BYTES
    assert least <= (known.most("bytes") or 0) <= size
    assert known.most("identifications") == 4096
    assert known.findings["time"].value == "ignores"


def test_without_the_secret_key_only_what_shows_at_once_is_known(tmp_path: Path) -> None:
    with probed_sandbox(SandboxOptions()) as (sandbox, clock):
        known = probe_limits(job_in(tmp_path), KEY, endpoint=sandbox.url, clock=clock)
        assert sandbox.stats.reads == 0
    unknown = {name for name, finding in known.findings.items() if finding.value is None}
    assert unknown == {"insert_id", "time", "clear_all", "bad_item", "clearing_field", "user_window"}
    assert "secret key" in known.findings["time"].evidence
    path = tmp_path / ".propsync" / "job" / "capabilities.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stored = json.loads(path.read_text())
    assert stored["identifications"]["value"] == 1000
    assert {"endpoint", "date", "bytes", "gzip", "min_id_length"} <= stored.keys()


def test_an_outage_keeps_nothing_and_a_passing_one_does_no_harm(tmp_path: Path) -> None:
    with probed_sandbox(SandboxOptions()) as (sandbox, clock):
        sandbox.begin_outage("503")
        with pytest.raises(DestinationError, match="not available"):
            probe_limits(job_in(tmp_path), KEY, endpoint=sandbox.url, clock=clock)
        assert sandbox.stats.requests < 10
        sandbox.begin_outage("503", seconds=3)
        known = probe_limits(job_in(tmp_path), KEY, endpoint=sandbox.url, clock=clock)
    assert known.most("bytes") == 1_000_000


def test_a_later_probe_that_differs_warns(tmp_path: Path) -> None:
    said: list[str] = []
    with probed_sandbox(SandboxOptions()) as (sandbox, clock):
        probe_limits(job_in(tmp_path), KEY, endpoint=sandbox.url, clock=clock, notify=said.append)
        assert not said
        sandbox.change(max_identifications=700)
        probe_limits(job_in(tmp_path), KEY, endpoint=sandbox.url, clock=clock, notify=said.append)
    (warning,) = said
    assert "identifications was 1,000 on 20" in warning
    assert warning.endswith("and is 700 now")


# --- the key and its region ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("us", "eu", "wanted", "requests", "message"),
    [
        (KEY, "x", "us", (1, 0), None),
        ("x", KEY, "us", (1, 1), "project in the region eu"),
        ("x", KEY, "eu", (0, 1), None),
        (KEY, "x", "eu", (1, 1), "project in the region us"),
        ("x", "x", "us", (1, 1), "refused by both regions"),
    ],
)
def test_the_region_of_a_key_is_found_with_two_requests(
    us: str, eu: str, wanted: str, requests: tuple[int, int], message: str | None
) -> None:
    with (
        running_sandbox(SandboxOptions(api_keys=frozenset({us}))) as american,
        running_sandbox(SandboxOptions(api_keys=frozenset({eu}))) as european,
    ):
        regions = {"us": american.url, "eu": european.url}
        job = job_in(Path(), region=regions[wanted])
        if message is None:
            assert probe_key(job, KEY, regions=regions)[1] == wanted
        else:
            with pytest.raises(DestinationError, match=message) as error:
                probe_key(job, KEY, regions=regions)
            assert KEY not in str(error.value)
        assert (american.stats.requests, european.stats.requests) == requests
        profiles = [*american.profiles.users.values(), *european.profiles.users.values()]
        assert not any(profile.properties for profile in profiles)


def test_an_answer_that_says_nothing_of_the_key_is_no_success(tmp_path: Path) -> None:
    with running_sandbox() as sandbox:
        for fault in ("503", "403", "portal", "reset"):
            sandbox.begin_outage(fault)
            with pytest.raises(DestinationError, match="didn't say whether"):
                probe_key(job_in(tmp_path, region=sandbox.url), KEY)


# --- what `run` makes of it ------------------------------------------------------------------------------


def keep(folder: Path, url: str, **found: int | None) -> None:
    from etl.checkpoint import StateDir

    state = StateDir(folder / ".propsync" / "job")
    state.prepare()
    findings = {name: Finding(value, "said so") for name, value in found.items()}
    Capabilities(url, "2026-01-02T03:04:05+00:00", findings).save(state)


USERS = pa.table({"id": [f"user-{n:05}" for n in range(3000)], "plan": ["free" * 20] * 3000})


@pytest.mark.parametrize(
    ("found", "given", "most", "warns"),
    [
        ({}, None, 500, False),
        ({"identifications": 200}, None, 200, False),
        ({"identifications": 1500}, None, 1500, False),
        ({"identifications": 200}, 300, 200, True),
        ({"identifications": 1500}, 1200, 1200, False),
        ({"identifications": 200}, 100, 100, False),
        ({"identifications": None}, 700, 700, False),
        ({"bytes": 20_000}, None, 131, False),
        ({"identifications": 800, "bytes": 20_000}, None, 131, False),
    ],
)
def test_a_run_keeps_to_what_was_found(
    tmp_path: Path, found: dict[str, int | None], given: int | None, most: int, warns: bool
) -> None:
    events: list[Event] = []
    limits = SandboxOptions(
        record=True,
        max_identifications=found.get("identifications") or 10_000,
        max_bytes=found.get("bytes") or 10**6,
    )
    with running_sandbox(limits) as sandbox:
        job = job_in(tmp_path)
        keep(tmp_path, sandbox.url, **found)
        options: dict[str, Any] = {"endpoint": sandbox.url, "batch_size": given}
        some = USERS.slice(0, 1600)
        warned = [one for one in plan(job, some, **options).warnings if one.code == "batch_size"]
        assert bool(warned) == warns
        run(job, some, key=KEY, rate=None, listener=events.append, **options)
        assert set(sandbox.stats.statuses) == {200}
        sent = [record.identifications for record in sandbox.requests]
    assert max(sent) <= most
    assert max(sent) >= most * 0.9
    texts = [one.message for one in events if isinstance(one, Warned | Noted) and "2026-01-02" in one.message]
    assert bool(texts) == (most != (given or 500))


def test_other_destinations_and_batch_are_left_alone(tmp_path: Path) -> None:
    keep(tmp_path, "https://api2.amplitude.com", identifications=7)
    with running_sandbox(SandboxOptions(record=True)) as sandbox:
        run(job_in(tmp_path), USERS, key=KEY, rate=None, endpoint=sandbox.url)
        assert max(record.identifications for record in sandbox.requests) == 500
    job = job_in(tmp_path, transport="batch")
    assert plan(job, USERS).tally.requests == 2
    assert plan(job_in(tmp_path), USERS).tally.requests == 429
    with pytest.raises(UsageError):
        plan(job, USERS, batch_size=3000)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "1", '"abc"', '{"endpoint": 1}'),
        '{"endpoint":"https://api2.amplitude.com","date":"","bytes":5}',
        '{"endpoint":"https://api2.amplitude.com","date":5,"bytes":{"value":700,"evidence":""}}',
    ],
)
def test_a_damaged_file_is_as_none(tmp_path: Path, text: str) -> None:
    keep(tmp_path, "https://api2.amplitude.com", identifications=7)
    (tmp_path / ".propsync" / "job" / "capabilities.json").write_text(text)
    assert plan(job_in(tmp_path), USERS).tally.requests == 6


# --- the command -----------------------------------------------------------------------------------------


def test_the_command(propsync: Propsync, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    (propsync.folder / "job.yml").write_text("source: a.csv\nidentification: {user_id: id, language: lang}\n")
    (propsync.folder / "a.csv").write_text("id,lang\nuser-1,de\n")
    at = ("job.yml", "--endpoint", sandbox.url)
    done = propsync("probe", *at)
    assert (done.code, done.out) == (0, f"job: the API key works at {sandbox.url}\n")
    assert propsync("probe", *at, "--json").summary == {"endpoint": sandbox.url, "region": None}
    sandbox_requests = sandbox.stats.requests
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody can say yes
    unasked = propsync("probe", *at, "--limits")
    assert (unasked.code, "give --yes" in unasked.err) == (2, True)
    assert sandbox.stats.requests == sandbox_requests + 1
    assert "probed on" not in propsync("check", *at).out
    keep(propsync.folder, sandbox.url, identifications=321, bytes=1_000_000)
    assert "a request takes 321 identifications and 1,000,000 bytes" in propsync("check", *at).out
