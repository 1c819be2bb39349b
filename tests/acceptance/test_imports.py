"""What costs time or memory at every start is only imported by who needs it.

That is pandas for a job's own transform, and aiohttp for sending.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from etl.cli.app import propsync as app
from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.commands import QUICK, REPOSITORY, Propsync
from tests.examples import rarely

# What pandas alone knows: a missing value among objects, which Arrow must see as none.
TRANSFORM = """
import pandas as pd

def changed(frame):
    plans = [pd.NA if number % 2 else "p%d" % number for number in range(len(frame))]
    return frame.assign(plan=pd.Series(plans, index=frame.index, dtype=object))
"""


def imported(stderr: str) -> set[str]:
    """The modules that `-X importtime` tells of; it also tells of those that weren't found."""
    lines = [line for line in stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


# Told once that there is no pandas, pyarrow keeps to it; so nothing may ask before the job is known.
LOOK = """
import sys
import etl
from tests.modules import importable_modules
from etl.process import _BEFORE_IMPORTS, watch_imports
asked = []
type(_BEFORE_IMPORTS).find_spec = lambda self, name, *_: asked.append(name) if name == "pandas" else None
watch_imports()
for name in importable_modules():
    __import__(name)
assert "pyarrow" in sys.modules
assert not asked
"""


def test_what_is_imported_looks_for_it_in_no_module() -> None:
    looked = subprocess.run([sys.executable, "-c", LOOK], cwd=REPOSITORY, capture_output=True, text=True)
    assert looked.returncode == 0, looked.stderr


def test_a_plain_job_does_without_pandas(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    command = ("run", job, "--endpoint", sandbox.url, *QUICK)
    finished = propsync.process(*command, full=True, PYTHONPROFILEIMPORTTIME="1")
    assert finished.code == 0
    assert {"pyarrow.lib", "aiohttp"} <= imported(finished.err)
    assert "pandas.core" not in imported(finished.err)


@pytest.mark.parametrize(
    ("command", "needed"),
    [("check", "pyarrow.lib"), pytest.param("status", "etl.job.loading", marks=pytest.mark.soak)],
)
def test_what_sends_nothing_does_without_either(
    propsync: Propsync, job: Path, command: str, needed: str
) -> None:
    finished = propsync.process(command, job, full=True, PYTHONPROFILEIMPORTTIME="1")
    assert finished.code == 0, finished.err
    assert needed in imported(finished.err)
    assert not {"aiohttp", "pandas.core"} & imported(finished.err)


# Commands one after another in one process, from the lightest on, and what has been imported by then.
STARTS = """
import contextlib, io, json, sys
begun = set(sys.modules)
from etl.__main__ import run_command_line
from etl.process import watch_imports
watch_imports()
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = run_command_line(arguments)
    print(json.dumps([code, [name for name in sys.modules if sys.modules[name] and name not in begun]]))
"""
# What all commands import, beside what Python brings along, and what `status` does besides.
OF_ALL = {"click", "etl", "etl.__main__", "etl.errors", "etl.library", "etl.process", "etl.text"}
OF_ALL |= {"etl.cli", "etl.cli.app", "etl.cli.console"}
OF_STATUS = {"etl.cli.commands", "etl.cli.commands.status", "etl.cli.options", "etl.checkpoint", "orjson"}
OF_STATUS |= {"etl.checkpoint.database", "etl.checkpoint.state_dir", "etl.checkpoint.store"}
OF_STATUS |= {"etl.job", "etl.job.known_job", "etl.job.run_options"}
OF_STATUS |= {"etl.listeners", "etl.listeners.summary"}
OF_STATUS |= {"etl.pipeline", "etl.pipeline.status"}
OF_STATUS |= {"etl.snapshot_metadata", "etl.state_files", "etl.tally"}
HEAVY = {"pydantic", "numpy", "pyarrow", "aiohttp", "asyncio", "jinja2", "rich", "pandas", "etl.model"}
ROWS = {"numpy", "pyarrow", "asyncio"}
HEAVY |= {"etl.reader", "etl.mapper", "etl.encoder", "etl.sender", "etl.sandbox", "etl.pipeline.plan"}


def test_a_command_imports_what_it_needs(job: Path) -> None:
    helps = [["--version"], ["--help"], *([name, "--help"] for name in app.commands)]
    here = ["--state-dir", str(job.parent / "state")]
    table: list[tuple[list[str], set[str]]] = [(one, set()) for one in helps]
    table += [
        (["schema"], {"pydantic"}),
        (["status", str(job), *here], set()),
        (["runs", str(job), *here], {"etl.model"}),
        (["preview", str(job)], {*ROWS, "etl.reader", "etl.mapper", "etl.encoder", "etl.sender"}),
        (["check", str(job), *here], {"etl.pipeline.plan"}),
    ]
    allowed = set[str]()
    for (arguments, added), modules in zip(table, imports_of(*(one for one, _ in table)), strict=True):
        allowed |= added
        assert HEAVY & modules <= allowed, arguments


def imports_of(*commands: list[str]) -> list[set[str]]:
    """What has been imported after each of the commands, as the first part of its name where not ours."""
    done = subprocess.run(
        [sys.executable, "-c", STARTS, json.dumps(commands)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert not any(code for code, _ in found)
    return [
        {name if name.startswith("etl") else name.partition(".")[0] for name in names} for _, names in found
    ]


def test_these_modules_and_no_others_are_imported(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    assert propsync("run", job, "--endpoint", sandbox.url, *QUICK).code == 0
    of_help, of_status = imports_of(["--help"], ["status", str(job)])
    assert not {"asyncio", "ctypes", "socket", "tempfile"} & (of_help | of_status)
    assert of_help - sys.stdlib_module_names == OF_ALL
    assert of_status - sys.stdlib_module_names - OF_ALL == OF_STATUS


@pytest.mark.parametrize("processes", ["2", *rarely("1")])
def test_a_transform_has_it_whole(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, processes: str
) -> None:
    exports.write_csv(tmp_path / "users.csv", 10)
    (tmp_path / "changes.py").write_text(TRANSFORM)
    job = exports.write_job(tmp_path, f"transform: changes:changed\n{exports.JOB}", source="users.csv")
    options = ("--endpoint", sandbox.url, "--processes", processes, *QUICK)
    finished = propsync.process("run", job, *options, full=processes == "2")
    assert finished.code == 0, finished.err
    users = sorted(sandbox.profiles.users.items())
    plans = [profile.properties.get("plan") for _, profile in users]
    assert plans == [None if number % 2 else f"p{number}" for number in range(10)]
