"""The package as users get it: built, installed into an empty environment, and every command of it tried."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.commands import KEY, REPOSITORY

pytestmark = pytest.mark.package

UV = Path(sys.executable).with_name("uv")
# Read before tests get an empty home folder: what was downloaded once is installed from here.
_CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
_PYENV = Path.home() / ".pyenv" / "versions"
_OTHER_PYTHONS = ("3.12", "3.13", "3.14")


def run(*words: str | Path, folder: Path, **variables: str) -> str:
    """What a process says that ends well; it finds no module of this repository."""
    inherited = {name: text for name, text in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment = {**inherited, "XDG_CACHE_HOME": _CACHE, "UV_PYTHON_DOWNLOADS": "never", **variables}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Built:
    """The folder of the distribution, and both files."""

    folder: Path
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--quiet", "--out-dir", folder, REPOSITORY, folder=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(folder, wheel, sdist)


def test_the_source_distribution_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    """`uv build` has built the wheel from the sdist; here it is built from the repository."""
    run(UV, "build", "--quiet", "--wheel", "--out-dir", tmp_path, REPOSITORY, folder=tmp_path)
    (again,) = tmp_path.glob("*.whl")
    assert again.read_bytes() == built.wheel.read_bytes()


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        told = message_from_bytes(archive.read(metadata))
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "etl", "propsync"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert held == set(listed.splitlines())
    assert {"etl/py.typed", "propsync/py.typed", "propsync/__init__.pyi"} <= held
    licenses = told.get_all("License-File", [])
    for asset in ("htmx", "pico"):
        assert any(re.search(rf"assets/{asset}\.min\.(js|css)$", name) for name in held)
        assert f"etl/sandbox/assets/{asset}.LICENSE.txt" in licenses
    assert "LICENSE" in licenses
    links = re.findall(r"\]\(([^)]+)\)", str(told.get_payload()))
    assert len(links) > 5
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert told["Author"] == "The propsync authors"
    assert {line.partition(",")[0] for line in told.get_all("Project-URL", [])} == {
        "Homepage",
        "Documentation",
        "Changelog",
        "Issues",
    }


def test_the_source_distribution_holds_what_its_tests_need(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        held = {name.partition("/")[2].split("/")[0] for name in archive.getnames()}
    assert {
        "etl",
        "propsync",
        "tests",
        "docs",
        "sample_data",
        "Makefile",
        "LICENSE",
        "pyproject.toml",
    } <= held
    assert not {name for name in held if name in {".venv", "dist", ".git"}}


@dataclass(frozen=True)
class Installed:
    """The command and the Python of an environment that held nothing before."""

    command: Path
    python: Path


def with_uv(python: str | Path, built: Built, folder: Path) -> Installed:
    tools, commands = folder / "tools", folder / "commands"
    variables = {"UV_TOOL_DIR": str(tools), "UV_TOOL_BIN_DIR": str(commands)}
    run(UV, "tool", "install", "--quiet", "--python", python, built.wheel, folder=folder, **variables)
    return Installed(commands / "propsync", tools / "propsync" / "bin" / "python")


@pytest.fixture(scope="module", params=["own", *_OTHER_PYTHONS])
def installed(
    request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """Installed as a tool: into an environment of its own, that holds what the wheel asks for and no more."""
    version = request.param
    found: list[str | Path | None] = [sys.executable]
    if version != "own":
        found = [shutil.which(f"python{version}"), *_PYENV.glob(f"{version}.*/bin/python")]
    for python in found:
        if python and not subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
            return with_uv(python, built, tmp_path_factory.mktemp("installed"))
    pytest.skip(f"there is no Python {version} here")


_HELPS = """
import sys, etl, propsync
from propsync.__main__ import run_command_line
propsync.Job, etl.run
sys.exit(any([run_command_line([name, "--help"]) for name in sys.argv[1:]]))
"""


def test_every_command_helps_and_a_job_arrives(
    installed: Installed, sandbox: Sandbox, tmp_path: Path
) -> None:
    said = run(installed.command, "--help", folder=tmp_path, COLUMNS="200")
    commands = re.findall(r"^  (\w+)  ", said.partition("\nCommands:\n")[2], re.MULTILINE)
    assert {"init", "check", "run", "verify", "sandbox", "try"} <= set(commands)
    helps = run(installed.python, "-c", _HELPS, *commands, folder=tmp_path)
    assert helps.count("\n  Examples\n") == len(commands)
    shutil.copytree(REPOSITORY / "sample_data", tmp_path / "data")
    job, state = tmp_path / "data" / "users-csv.yml", tmp_path / "state"
    sending = (
        "--endpoint",
        sandbox.url,
        "--rate",
        "max",
        "--state-dir",
        state,
        "--report",
        "night.html",
        "--json",
    )
    checked = json.loads(run(installed.command, "check", job, "--json", folder=tmp_path))
    summary = json.loads(run(installed.command, "run", job, *sending, folder=tmp_path, AMPLITUDE_API_KEY=KEY))
    assert summary["rows"] == checked["rows"] == summary["accepted"] + summary["merged"]
    assert sandbox.stats.identifications == summary["accepted"]
    assert "<html" in (tmp_path / "night.html").read_text(encoding="utf-8")


def test_the_sandbox_serves_its_page(installed: Installed, tmp_path: Path) -> None:
    """Templates and assets are found where they are installed."""
    script = (
        "import re, urllib.request\n"
        "from etl.sandbox import running_sandbox\n"
        "with running_sandbox() as sandbox:\n"
        "    page = urllib.request.urlopen(sandbox.url).read().decode()\n"
        '    for place in re.findall(r\'(?:src|href)="(/assets/[^"]+)"\', page):\n'
        "        print(place, len(urllib.request.urlopen(sandbox.url + place).read()))\n"
    )
    said = run(installed.python, "-c", script, folder=tmp_path)
    assert len(said.splitlines()) >= 2, said
