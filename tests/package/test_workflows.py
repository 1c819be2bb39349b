"""The workflows of the repository: pinned, with the fewest permissions, and free of zizmor's findings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_both_workflows_are_there() -> None:
    assert [path.name for path in WORKFLOWS] == ["release.yml", "test.yml"]


def test_every_action_is_pinned_to_a_commit_and_names_its_version(workflow: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: *(.+)$", workflow.read_text(encoding="utf-8"), re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_only_what_publishes_may_sign(workflow: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert content["permissions"] == {}
    for name, job in content["jobs"].items():
        allowed = {"attest": {"id-token", "attestations"}, "publish": {"id-token"}}.get(name, set())
        assert {scope for scope, access in job["permissions"].items() if access == "write"} == allowed
        assert "secrets." not in str(job)
        assert 0 < job["timeout-minutes"] <= 40


def test_the_lock_names_no_other_host_than_the_public_index() -> None:
    hosts = re.findall(r"https?://([^/\"]+)", (REPOSITORY / "uv.lock").read_text(encoding="utf-8"))
    assert set(hosts) == {"pypi.org", "files.pythonhosted.org"}


@pytest.mark.package
def test_they_and_the_one_for_users_are_as_github_s_schema_has_them() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    files = [*WORKFLOWS, *(REPOSITORY / "deploy" / "github").glob("*.yml")]
    command: list[str | Path] = [tool, "--builtin-schema", "vendor.github-workflows", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.package
def test_zizmor_finds_nothing() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    command: list[str | Path] = [zizmor, "--offline", "--persona", "auditor", "--no-progress", REPOSITORY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
