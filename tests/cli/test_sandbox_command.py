"""`propsync sandbox`: its flags are those of its documentation and of its options."""

from __future__ import annotations

import dataclasses
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from etl.cli.local import sandbox as command
from etl.sandbox import SandboxOptions
from tests.acceptance import exports
from tests.acceptance.reading_back import properties
from tests.commands import QUICK, REPOSITORY, Propsync

# How each flag is given, and what it makes of the options.
GIVEN: dict[str, tuple[list[str], Any]] = {
    "port": (["--port", "8900"], 8900),
    "api_keys": (["--api-key", "one", "--api-key", "two"], frozenset({"one", "two"})),
    "secret_keys": (["--secret-key", "s"], frozenset({"s"})),
    "echo_key": (["--echo-key"], True),
    "max_identifications": (["--max-identifications", "10"], 10),
    "max_bytes": (["--max-bytes", "1000"], 1000),
    "max_events": (["--max-events", "500"], 500),
    "max_batch_bytes": (["--max-batch-bytes", "2000"], 2000),
    "requests_per_second": (["--requests-per-second", "2.5"], 2.5),
    "identifications_per_second": (["--identifications-per-second", "50"], 50.0),
    "reads_per_minute": (["--reads-per-minute", "600"], 600.0),
    "user_updates_per_second": (["--user-updates-per-second", "30"], 30.0),
    "user_window": (["--user-window", "10"], 10.0),
    "user_updates_per_hour": (["--user-updates-per-hour", "1800"], 1800),
    "retry_after": (["--retry-after", "0.5"], 0.5),
    "hot_users": (["--hot-user", "a", "--hot-user", "b"], frozenset({"a", "b"})),
    "hot_tries": (["--hot-tries", "3"], 3),
    "poison_users": (["--poison-user", "a"], frozenset({"a"})),
    "poison_texts": (["--poison-text", "DROP TABLE"], frozenset({"DROP TABLE"})),
    "poison_status": (["--poison-status", "403"], 403),
    "quota_users": (["--quota-user", "a"], frozenset({"a"})),
    "silenced_users": (["--silenced-user", "a"], frozenset({"a"})),
    "offenders": (["--offenders", "first"], "first"),
    "ingested": (["--ingested", "new"], "new"),
    "faults": (["--fault", "503:0.05", "--fault", "reset-after:0.1"], "503:0.05 reset-after:0.1"),
    "latency": (["--latency", "80ms"], 0.08),
    "seed": (["--seed", "7"], 7),
    "sink": (["--sink"], True),
    "record": (["--record"], True),
    "journal": (["--journal", "requests.ndjson"], Path("requests.ndjson")),
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[SandboxOptions]:
    """The options of each sandbox that would have been served."""
    seen: list[SandboxOptions] = []

    async def note(options: SandboxOptions, **_: object) -> None:
        seen.append(options)

    monkeypatch.setattr("etl.sandbox.serve", note)
    return seen


def test_flags_and_documentation_agree() -> None:
    text = (REPOSITORY / "docs" / "sandbox.md").read_text()
    table = text[text.index("## Options") : text.index("### Faults")]
    documented = {
        flag
        for line in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
        for flag in re.findall("--[a-z-]+", line)
    }
    assert {flag for option in command.params for flag in option.opts} == documented


def test_every_option_has_a_flag() -> None:
    assert {option.name for option in command.params} == {
        one.name for one in dataclasses.fields(SandboxOptions)
    }
    assert GIVEN.keys() == {option.name for option in command.params}


@pytest.mark.parametrize("name", GIVEN)
def test_a_flag_sets_its_option_and_no_other(
    propsync: Propsync, served: list[SandboxOptions], name: str
) -> None:
    words, value = GIVEN[name]
    assert propsync("sandbox", *words).code == 0
    (options,) = served
    found = getattr(options, name)
    assert (" ".join(map(str, found)) if name == "faults" else found) == value
    assert dataclasses.replace(options, **{name: getattr(SandboxOptions(), name)}) == SandboxOptions()


@pytest.mark.parametrize(
    "words",
    [
        ["--fault", "503"],
        ["--fault", "sleep:0.5"],
        ["--fault", "503:0.7", "--fault", "500:0.7"],
        ["--port", "70000"],
        ["--latency", "long"],
        ["--poison-status", "401"],
        ["--max-bytes", "0"],
        ["--offenders", "last"],
        ["--ingested", "old"],
        ["--journal", "no/such/folder/file"],
    ],
)
def test_wrong_flags_are_told_and_nothing_is_served(propsync: Propsync, words: list[str]) -> None:
    finished = propsync("sandbox", *words)
    assert finished.code == 2
    assert finished.err
    assert not finished.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(
    propsync: Propsync, tmp_path: Path, number: signal.Signals
) -> None:
    exports.write_csv(tmp_path / "users.csv", 3)
    job = exports.write_job(tmp_path, source="users.csv")
    with propsync.begin("sandbox", "--port", "0", "--journal", "requests.ndjson") as serving:
        assert serving.process.stdout is not None
        url = serving.process.stdout.readline().removeprefix("sandbox at ").strip()
        assert propsync("run", job, "--endpoint", url, *QUICK).code == 0
        assert properties(url, exports.expected(3)) == exports.expected(3)
        serving.send(number)
        assert serving.wait().code == 0
    assert len((tmp_path / "requests.ndjson").read_text().splitlines()) == 1
