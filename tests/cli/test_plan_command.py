"""`check --save`, `plan show` and `run --plan` as they are typed."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from etl.sandbox import Sandbox
from etl.text import columns
from tests.commands import QUICK, Propsync

JOB = """source: users.csv
identification:
  user_id: id
  user_properties:
    plan: plan
    mrr: {column: mrr, type: number, invalid: skip}
    since: {column: since, type: date}
"""
ROWS = "id,plan,mrr,since\nuser-1,pro,1,2024-05-01\nuser-2,free,none,2024-05-01\nuser-3,team,3,May\n"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "users.csv").write_text(ROWS)
    (tmp_path / "job.yml").write_text(JOB)
    return tmp_path / "job.yml"


def saved(propsync: Propsync, sandbox: Sandbox, job: Path, *more: str) -> Path:
    plan = job.with_name("plan.json")
    assert propsync("check", job, "--endpoint", sandbox.url, "--save", plan, *more).code == 3
    return plan


def test_a_plan_is_saved_shown_and_applied_once(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    plan = saved(propsync, sandbox, job)
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    shown = propsync("plan", "show", plan)
    assert shown.code == 0
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert "property set unchanged skipped rejected" in lines
    assert {"$set.plan 2 0 0 0", "$set.mrr 1 0 1 0", "$set.since 2 0 0 1"} <= set(lines)
    assert "bad_date 1" in lines
    assert max(map(len, shown.out.splitlines())) <= 80 + len(sandbox.url)
    run = ("run", job, "--endpoint", sandbox.url, *QUICK, "--plan", plan)
    assert propsync(*run, "--dry-run").code == 3
    assert propsync(*run, "--json").summary["accepted"] == 2
    again = propsync(*run, "--json")
    assert again.code == 4
    assert "applied already" in again.summary["reason"]
    assert "plan is sent once" in again.summary["hint"]
    assert propsync(*run, "--dry-run").code == 4
    assert sandbox.stats.identifications == 2


def test_a_plan_as_json_is_the_file_and_has_no_values(
    propsync: Propsync, sandbox: Sandbox, job: Path
) -> None:
    plan = saved(propsync, sandbox, job)
    printed = propsync("plan", "show", plan, "--json").out
    assert json.loads(printed) == json.loads(plan.read_bytes())
    assert not any(value in printed for value in ("user-1", '"free"', "May"))
    saved(propsync, sandbox, job, "--with-values")
    assert '"free"' in propsync("plan", "show", plan, "--json").out


def test_names_are_only_text_in_markdown(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    name = "<script>`x`|@all [a](http://b) #1 \u202e"
    job.write_text(JOB.replace("    plan: plan\n", f"    {json.dumps(name)}: plan\n"))
    plan = saved(propsync, sandbox, job)
    for kind in ((), ("--markdown",)):
        assert "\u202e" not in propsync("plan", "show", plan, *kind).out
    (row,) = [
        line for line in propsync("plan", "show", plan, "--markdown").out.splitlines() if "script" in line
    ]
    assert row.startswith("| `$set.<script>'x'\\|@all [a](http://b) #1 ")
    assert row.count("`") == 2


def test_a_guard_that_stops_and_warnings_are_shown(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    text = JOB.replace(
        "    plan: plan",
        "    $add: {points: {column: mrr, type: integer, invalid: skip}}\n    $set:\n      plan: plan",
    )
    text = text.replace("    mrr:", "      mrr:").replace("    since:", "      since:")
    job.write_text(text)
    plan = job.with_name("plan.json")
    check = ("check", job, "--endpoint", sandbox.url, "--save", plan, "--max-rejects", "0")
    assert propsync(*check).code == 4
    out = propsync("plan", "show", plan).out
    assert "stops --max-rejects 0 1 reject" in [" ".join(line.split()) for line in out.splitlines()]
    assert "\n  warning\n  $add: " in out
    assert max(map(columns, out.splitlines())) <= 80
    markdown = propsync("plan", "show", plan, "--markdown").out
    assert "a guard would stop the run" in markdown
    assert "| `stops` | `--max-rejects 0` | `1 reject` |" in markdown
    assert "| `$add: " in markdown


def test_lines_stay_within_80_columns_whatever_a_property_is_called(
    propsync: Propsync, sandbox: Sandbox, job: Path
) -> None:
    names = ("n" * 300, "\u540d" * 100, "\u202e<script>" * 20)
    job.write_text(JOB + "".join(f"    {json.dumps(name)}: plan\n" for name in names))
    out = propsync("plan", "show", saved(propsync, sandbox, job)).out
    assert [line for line in out.splitlines() if columns(line) > 80] == []
    assert sum(line.startswith("  $set.") for line in out.splitlines()) == 6


def test_many_properties_are_cut(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    names = "".join(f"    p{number}: plan\n" for number in range(60))
    job.write_text(JOB.partition("    plan: plan")[0] + names)
    plan = job.with_name("plan.json")
    propsync("check", job, "--endpoint", sandbox.url, "--save", plan)
    assert "and 20 more properties: see --json" in propsync("plan", "show", plan).out
    assert "and 20 more" in propsync("plan", "show", plan, "--markdown").out


def test_a_stream_can_t_be_planned(propsync: Propsync, job: Path) -> None:
    plan = job.with_name("plan.json")
    found = propsync.process("check", job, "-", "--save", plan, stdin=ROWS)
    assert found.code == 2
    assert "no plan of it" in found.err
    assert not plan.exists()


@pytest.mark.parametrize(("text", "code"), [(None, 2), ("{}", 2), ('{"format": 7, "digest": ""}', 4)])
def test_what_is_no_plan_is_refused(propsync: Propsync, job: Path, text: str | None, code: int) -> None:
    plan = job.with_name("plan.json")
    if text is not None:
        plan.write_text(text)
    for words in (("plan", "show", plan), ("run", job, "--plan", plan)):
        assert propsync(*words).code == code
    assert propsync("plan", "show", job.parent).code == 2
    assert propsync("check", job, "--save", job.parent / "gone" / "plan.json").code == 2


def test_whatever_is_forged_in_a_plan_is_told(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    plan = saved(propsync, sandbox, job)
    whole = json.loads(plan.read_text())
    places = [path for path in places_in(whole) if path[0] not in {"digest", "format"}]
    refused = set()
    for *parents, last in places:
        for gone in (True, False):
            data = json.loads(plan.read_text())
            holder = reduce(lambda part, key: part[key], parents, data)
            holder[last] = [[]]
            if gone:
                del holder[last]
            content = {name: value for name, value in data.items() if name != "digest"}
            digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            forged = job.with_name("forged.json")
            forged.write_text(json.dumps(content | {"digest": digest}))
            for words in (("plan", "show", forged), ("plan", "show", forged, "--markdown")):
                found = propsync(*words)
                assert found.code in {0, 2}, (parents, last, found.err)
            if found.code == 2:
                refused.add(last)
                assert last in found.err or not parents
    assert {"rows", "properties", "sha256", "changes", "endpoint"} <= refused
    assert propsync("run", job, "--endpoint", sandbox.url, "--plan", forged).code in {2, 4}
    assert not sandbox.stats.requests


def places_in(data: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all keys in objects that no list holds."""
    for key, value in data.items():
        yield (*path, key)
        if isinstance(value, dict) and key not in {"keys", "reject_examples", "rejects_by_code"}:
            yield from places_in(value, (*path, key))


def test_a_plan_may_stand_in_the_job_file(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    saved(propsync, sandbox, job)
    job.write_text(JOB + "run: {plan: plan.json}\n")
    assert propsync("run", job, "--endpoint", sandbox.url, *QUICK).code == 3
    assert propsync("run", job, "--endpoint", sandbox.url, *QUICK).code == 4
