"""The files for systemd, Prometheus, Grafana and GitHub: what they name is there."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.cli.app import propsync
from etl.errors import ExitCode
from etl.job.spec import parse_job
from etl.listeners.metrics import metric_families
from tests.commands import REPOSITORY
from tests.docs.pages import DOCS, blocks
from tests.listeners.events import every_metric

DEPLOY = REPOSITORY / "deploy"
_METRIC = re.compile(r"\bpropsync_[a-z_]+")
_LABEL = re.compile(r"(\w+)=\"")
# Of every file that is shown on the page.
SHOWN = [
    path
    for path in sorted(DEPLOY.rglob("*"))
    if path.parent.name in {"cron", "systemd", "airflow", "dagster"}
]


def families() -> dict[str, set[str]]:
    """What the listener writes: each metric, and its labels."""
    return {
        name: {"job", *(label for labels, _ in samples for label in labels)}
        for name, _, _, samples in metric_families(every_metric())
    }


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found = json.loads((DEPLOY / "grafana" / "propsync.json").read_text())["panels"]
    assert isinstance(found, list)
    return found


def test_every_metric_and_label_named_is_one_that_is_written() -> None:
    written = families()
    shown = [target for panel in panels() for target in panel["targets"]]
    expressions = [rule["expr"] for rule in rules()] + [target["expr"] for target in shown]
    for expression in expressions:
        (name,) = set(_METRIC.findall(expression))
        assert set(_LABEL.findall(expression)) <= written[name]
    for target in shown:
        (name,) = set(_METRIC.findall(target["expr"]))
        labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - {"exported_job"}
        assert labels <= written[name]


def test_panels_and_rules_are_told_apart_and_have_their_place() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels()) == 9
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    assert all({"summary", "description"} == set(rule["annotations"]) for rule in rules())


def test_the_exit_codes_of_the_dashboard_are_those_of_the_program() -> None:
    (mapping,) = panels()[0]["fieldConfig"]["defaults"]["mappings"]
    assert {int(code) for code in mapping["options"]} == {int(code) for code in ExitCode}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_rules_and_each_alerts_when_it_should() -> None:
    for what, name in (("check", "alerts.yml"), ("test", "alerts_test.yml")):
        subprocess.run(["promtool", what, "rules", name], cwd=DEPLOY / "prometheus", check=True)


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    units = []
    for path in sorted((DEPLOY / "systemd").iterdir()):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(path)
        assert parser.sections()
        if path.suffix == ".service":
            assert parser["Service"]["SuccessExitStatus"] == f"{ExitCode.REJECTS:d} {ExitCode.ACTIVE:d}"
            program, name, *words = parser["Service"]["ExecStart"].split()
            assert propsync.commands[name].make_context(name, words)
        else:
            assert parser["Timer"]["OnCalendar"] == "*-*-* 02:15:00"
        units.append(tmp_path / path.name)
        units[-1].write_text(path.read_text().replace(program, sys.executable))
    if shutil.which("systemd-analyze") is not None:
        done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_workflow_runs_commands_that_there_are() -> None:
    workflow = yaml.safe_load((DEPLOY / "github" / "propsync-plan.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    for step in job["steps"]:
        if "uses" in step:  # a tag can be moved, a commit can't
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
    script = "\n".join(step.get("run", "") for step in job["steps"])
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    typed = re.findall(r"^propsync (\w+) ([^|>\n]*)", script, re.MULTILINE)
    assert [name for name, _ in typed] == ["check", "plan"]
    for name, words in typed:
        assert propsync.commands[name].make_context(name, words.split())


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_the_page_shows_the_files_as_they_are(path: Path) -> None:
    shown = [block.text for block in blocks(DOCS / "schedulers.md")]
    assert path.read_text() in shown


def test_the_job_file_of_the_page_is_one() -> None:
    (block,) = blocks(DOCS / "schedulers.md", "yaml")
    job = parse_job(block.text, name=block.note, folder=Path())
    assert (job.run.get("notify") or "").startswith("webhook+https://")
