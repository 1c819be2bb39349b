"""`propsync sandbox`: its flags, and their documentation."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from etl.cli.commands.sandbox import sandbox_command as command
from etl.sandbox import FaultRule, SandboxOptions
from etl.sandbox.sandbox_options import FAULT_KINDS
from tests.acceptance import exports
from tests.acceptance.reading_back import properties
from tests.commands import QUICK, REPOSITORY, Propsync

# How each flag is given, which option it sets, and to what.
GIVEN: dict[str, tuple[list[str], str, Any]] = {
    "--port": (["8900"], "port", 8900),
    "--api-key": (["one", "--api-key", "two"], "api_keys", frozenset({"one", "two"})),
    "--fault": (
        ["503:0.05", "--fault", "reset-after:10%"],
        "faults",
        (FaultRule("503", "before", 0.05), FaultRule("reset", "after", 0.1)),
    ),
    "--latency": (["80ms"], "latency", 0.08),
    "--seed": (["7"], "seed", 7),
    "--identifications-per-second": (["50"], "identifications_per_second", 50.0),
    "--hot-user": (["a", "--hot-user", "b"], "hot_users", frozenset({"a", "b"})),
    "--poison-user": (["a"], "poison_users", frozenset({"a"})),
    "--sink": ([], "sink", True),
    "--record": ([], "record", True),
    "--memory": ([], "memory", True),
    "--journal": (["requests.ndjson"], "journal", Path("requests.ndjson")),
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[SandboxOptions]:
    """The options of each sandbox that would have been served."""
    seen: list[SandboxOptions] = []

    async def note(options: SandboxOptions, **_: object) -> None:
        seen.append(options)

    monkeypatch.setattr("etl.sandbox.serve", note)
    return seen


def documented(heading: str) -> set[str]:
    """The names in the first column of the table below a heading of the page."""
    text = (REPOSITORY / "docs" / "sandbox.md").read_text(encoding="utf-8")
    table = text.partition(f"{heading}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(-?-?[a-z_-]+)", row)}


def test_the_page_has_every_flag_and_every_option() -> None:
    flags = {flag for p in command.params for flag in p.opts}
    assert documented("## Flags") == GIVEN.keys() | {"--open"} == flags
    by_flags = {option for _, option, _ in GIVEN.values()}
    assert documented("## More options") == {one.name for one in fields(SandboxOptions)} - by_flags


@pytest.mark.parametrize("flag", GIVEN)
def test_a_flag_sets_its_option_and_no_other(
    propsync: Propsync, served: list[SandboxOptions], flag: str
) -> None:
    words, option, value = GIVEN[flag]
    assert propsync("sandbox", flag, *words).code == 0
    assert served == [replace(SandboxOptions(), **{option: value})]


def test_its_page_is_opened_if_asked_for(propsync: Propsync, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def visit(url: str) -> None:
        with urllib.request.urlopen(url, timeout=10) as answer:
            seen.append(answer.read().decode())
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C

    monkeypatch.setattr("webbrowser.open", visit)
    assert propsync("sandbox", "--open").code == 0
    assert len(seen) == 1
    assert "propsync sandbox" in seen[0]


def test_the_help_explains_every_kind_of_fault(propsync: Propsync) -> None:
    kinds = propsync("sandbox", "--help").out.partition("Kinds of faults\n")[2]
    assert set(FAULT_KINDS) <= set(re.findall(r"^ +(\w+)  ", kinds, re.MULTILINE))


@pytest.mark.parametrize(
    "words",
    [
        ["--fault", "503"],
        ["--fault", "sleep:0.5"],
        ["--fault", "503:0.7", "--fault", "500:0.7"],
        ["--port", "70000"],
        ["--latency", "long"],
        ["--identifications-per-second", "0"],
        ["--journal", "no/such/folder/file"],
    ],
)
def test_wrong_flags_are_told_and_nothing_is_served(propsync: Propsync, words: list[str]) -> None:
    finished = propsync("sandbox", *words)
    assert finished.code == 2
    assert finished.err
    assert not finished.out


def test_it_serves_until_it_is_stopped(propsync: Propsync, tmp_path: Path) -> None:
    exports.write_csv(tmp_path / "users.csv", 3)
    job = exports.write_job(tmp_path, source="users.csv")
    with propsync.begin("sandbox", "--port", "0", "--journal", "requests.ndjson") as serving:
        assert serving.process.stdout is not None
        url = serving.process.stdout.readline().removeprefix("sandbox at ").strip()
        assert propsync("run", job, "--endpoint", url, *QUICK).code == 0
        assert properties(url, exports.expected(3)) == exports.expected(3)
        serving.send(signal.SIGINT)  # SIGTERM: tests/sandbox/test_lifecycle.py
        assert serving.wait().code == 0
    assert len((tmp_path / "requests.ndjson").read_text().splitlines()) == 1
