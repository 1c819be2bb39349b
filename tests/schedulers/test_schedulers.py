"""The examples for Airflow and Dagster, run by Airflow and Dagster against a sandbox.

Each has an environment of its own in `.schedulers/` of the checkout, made once: 2 and 1 minutes, 450 and
300 MB with propsync. `make schedulers` runs this; `make test` does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from etl.checkpoint import StateDir
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.acceptance import exports
from tests.commands import KEY, REPOSITORY

pytestmark = [pytest.mark.schedulers, pytest.mark.timeout(1200)]
ENVIRONMENTS = REPOSITORY / ".schedulers"
PACKAGES = {"airflow": "apache-airflow==3.*", "dagster": "dagster==1.*"}
SECONDS = 300.0

# With one retry, at once.
HASTY = {
    '"retries": 3': '"retries": 1',
    "timedelta(minutes=10)": "timedelta(0)",
    "max_retries=3": "max_retries=1",
}
AIRFLOW = """
import json, sys
sys.path.insert(0, sys.argv[1])
import propsync_dags
run = getattr(propsync_dags, sys.argv[2])().test()
(task,) = run.get_task_instances()
result = task.xcom_pull(task_ids="run") if task.state == "success" else None
print("told:" + json.dumps({"state": task.state, "tries": task.try_number, "result": result}))
"""
DAGSTER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from dagster import DagsterInstance, materialize
import propsync_assets
with DagsterInstance.ephemeral() as instance:
    assets = [propsync_assets.amplitude_user_properties]
    result = materialize(assets, instance=instance, raise_on_error=False)
kinds = [event.event_type_value for event in result.all_events]
told = {"state": "success" if result.success else "failed", "tries": 1 + kinds.count("STEP_RESTARTED")}
if result.success:
    (event,) = result.asset_materializations_for_node("amplitude_user_properties")
    told["result"] = {name: value.value for name, value in event.metadata.items()}
else:
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    metadata = event.event_specific_data.user_failure_data.metadata
    told["result"] = {name: value.value for name, value in metadata.items()}
print("told:" + json.dumps(told))
"""


def environment(name: str) -> Path:
    """The programs of an environment with that scheduler and propsync, made if it isn't there."""
    folder = ENVIRONMENTS / name
    if not (folder / ".ready").exists():
        # pip asks rustc for its version, and rustup makes a folder in the home folder.
        own = {**os.environ, "HOME": str(folder)}
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, env=own)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        for words in ([PACKAGES[name]], ["--editable", str(REPOSITORY)]):
            if subprocess.run([*pip, *words], env=own).returncode:
                pytest.skip(f"{words[-1]} can't be installed here")
        (folder / ".ready").touch()
    return folder / "bin"


class Scheduled:
    """Runs the job under a scheduler; what the job meets is set up before."""

    def __init__(self, folder: Path, sandbox: Sandbox, stack: ExitStack) -> None:
        self.folder, self._sandbox, self._stack = folder, sandbox, stack
        self.goes_well()

    def goes_well(self) -> None:
        self._write(self._sandbox.url)

    def too_many_rejects(self) -> None:
        self._write(self._sandbox.url, bad=(2, 3))

    def refuses_the_key(self) -> None:
        strict = running_sandbox(SandboxOptions(api_keys=frozenset({"another"})))
        self._write(self._stack.enter_context(strict).url)

    def is_active(self) -> None:
        self.goes_well()
        self._stack.enter_context(StateDir(self.folder / ".propsync" / "nightly").hold())

    def _write(self, url: str, bad: tuple[int, ...] = ()) -> None:
        exports.write_csv(self.folder / "users.csv", 5, bad=bad)
        where = f"destination: {{region: '{url}'}}\n"
        exports.write_job(self.folder, where + exports.JOB, name="nightly.yml", source="users.csv")

    def run(self, programs: Path, script: str, *arguments: str | Path) -> dict[str, Any]:
        words = [programs / "python", "-c", script, *arguments]
        done = subprocess.run(words, **self.process(programs))
        (told,) = [line for line in done.stdout.splitlines() if line.startswith("told:")] or [done.stderr]
        found = json.loads(told.removeprefix("told:"))
        assert isinstance(found, dict)
        return found

    def process(self, programs: Path) -> dict[str, Any]:
        variables = {
            **os.environ,
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
            "HOME": str(self.folder),
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.folder / "files"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PROPSYNC_JOB": str(self.folder / "nightly.yml"),
            "PROPSYNC_RETRY_SECONDS": "0",
            "AMPLITUDE_API_KEY": KEY,
        }
        settings = {"capture_output": True, "text": True, "timeout": SECONDS, "cwd": self.folder}
        return {**settings, "env": variables, "stdin": subprocess.DEVNULL}

    def copy(self, path: Path) -> Path:
        """A copy of an example whose retry doesn't wait."""
        text = path.read_text()
        for found, hasty in HASTY.items():
            text = text.replace(found, hasty)
        folder = self.folder / "files"
        folder.mkdir()
        (folder / path.name).write_text(text)
        return folder


@pytest.fixture
def scheduled(tmp_path: Path, sandbox: Sandbox) -> Iterator[Scheduled]:
    with ExitStack() as stack:
        yield Scheduled(tmp_path, sandbox, stack)


# What the job meets; how the task ends, and after how many tries: as a command, and as a call.
Case = tuple[Callable[[Scheduled], None], tuple[str, int], tuple[str, int]]
CASES: list[Case] = [
    (Scheduled.goes_well, ("success", 1), ("success", 1)),
    (Scheduled.too_many_rejects, ("failed", 2), ("failed", 1)),
    (Scheduled.refuses_the_key, ("failed", 2), ("failed", 2)),
    (Scheduled.is_active, ("skipped", 1), ("skipped", 1)),
]


@pytest.mark.parametrize("way", ["propsync_command", "propsync_call"])
def test_airflow(scheduled: Scheduled, sandbox: Sandbox, way: str) -> None:
    programs = environment("airflow")
    folder = scheduled.copy(REPOSITORY / "deploy" / "airflow" / "propsync_dags.py")
    for words in ("db migrate", "dags reserialize"):
        subprocess.run([programs / "airflow", *words.split()], check=True, **scheduled.process(programs))
    for meets, command, call in CASES:
        meets(scheduled)
        told = scheduled.run(programs, AIRFLOW, folder, way)
        assert (told["state"], told["tries"]) == (command if way == "propsync_command" else call), meets
        if meets is Scheduled.goes_well:
            assert told["result"]["accepted"] == len(sandbox.profiles.users) == 5
            assert told["result"]["status"] == "finished"


def test_dagster(scheduled: Scheduled, sandbox: Sandbox) -> None:
    programs = environment("dagster")
    folder = scheduled.copy(REPOSITORY / "deploy" / "dagster" / "propsync_assets.py")
    for meets, tries, result in (
        (Scheduled.goes_well, 1, {"accepted": 5, "status": "finished"}),
        (Scheduled.too_many_rejects, 1, {"exit_code": 4}),
        (Scheduled.refuses_the_key, 2, {"exit_code": 5}),
        (Scheduled.is_active, 2, {"exit_code": 6}),
    ):
        meets(scheduled)
        told = scheduled.run(programs, DAGSTER, folder)
        assert told["state"] == ("success" if meets is Scheduled.goes_well else "failed")
        assert told["tries"] == tries, meets
        assert told["result"].items() >= result.items()
    assert len(sandbox.profiles.users) == 5
