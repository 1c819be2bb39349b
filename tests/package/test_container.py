"""The image: what its Dockerfile and page promise, and a run in it where there is an engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from etl.cli.app import propsync as command_line
from etl.job.spec import parse_job
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.commands import KEY, REPOSITORY, until
from tests.docs.pages import DOCS, blocks
from tests.docs.playing import steps

DOCKERFILE, PAGE = REPOSITORY / "Dockerfile", DOCS / "containers.md"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, in order."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def last_stage() -> dict[str, str]:
    """The last stage's instructions; the last of each kind counts."""
    found = instructions()
    begin = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[begin:])


def test_it_runs_as_a_user_without_rights() -> None:
    user, _, group = last_stage()["USER"].partition(":")
    # By number: Kubernetes' runAsNonRoot can't look up a name.
    assert int(user) >= 10000
    assert int(group) >= 10000


@pytest.mark.parametrize("instruction", ["ENTRYPOINT", "CMD"])
def test_no_shell_stands_between_the_engine_and_the_command(instruction: str) -> None:
    words = json.loads(last_stage()[instruction])
    assert isinstance(words, list)
    assert not {"sh", "bash", "/bin/sh"} & set(words)


def test_state_is_on_a_volume() -> None:
    assert last_stage()["VOLUME"] == "/state"


def test_the_last_stage_brings_neither_source_nor_build_tools() -> None:
    copied = [rest for name, rest in instructions() if name in {"COPY", "ADD"}]
    assert last_stage()["COPY"] == "--from=build /opt/propsync /opt/propsync"
    assert sum("--from" in rest for rest in copied) == 1
    assert "ADD" not in dict(instructions())


def needed_for_the_wheel() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    readmes = [fragment["path"] for fragment in hook["fragments"]]
    licenses = [name for name in project["project"]["license-files"] if "/" not in name]
    return {"pyproject.toml", *readmes, *packages, *licenses}


def test_what_the_wheel_is_built_of_is_copied_and_nothing_else_is_sent() -> None:
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == needed_for_the_wheel()
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line for line in ignored if not line.startswith("#")]
    assert sent[0] == "*"
    assert {line[1:] for line in sent if line.startswith("!")} == copied
    assert not any(fnmatch.fnmatch(name, line) for line in sent[1:] for name in copied if line[0] != "!")


def commands_of_the_page() -> Iterator[list[str]]:
    """The words after the image's name, in each `docker run` of the page and in its manifests."""
    for block in blocks(PAGE, "console"):
        for step in steps(block.text):
            words = shlex.split(step.command)
            if words[:2] == ["docker", "run"]:
                yield words[words.index("propsync:0.1.0") + 1 :]
    for manifest in manifests():
        if manifest["kind"] == "CronJob":
            yield container(manifest)["args"]


def manifests() -> list[dict[str, Any]]:
    return [
        manifest
        for block in blocks(PAGE, "yaml")
        if "apiVersion" in block.text
        for manifest in yaml.safe_load_all(block.text)
    ]


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(manifest)["containers"]
    assert isinstance(found, dict)
    return found


def test_the_commands_of_the_page_are_taken() -> None:
    found = list(commands_of_the_page())
    assert len(found) >= 3
    for name, *rest in found:
        command = command_line.commands[name]
        options = [word for word in rest if word.startswith("--")]
        known = {flag for option in command.params for flag in option.opts}
        assert set(options) <= known
        assert any(isinstance(parameter, click.Argument) for parameter in command.params)


def test_the_cron_job_runs_as_the_image_does() -> None:
    (cron,) = [manifest for manifest in manifests() if manifest["kind"] == "CronJob"]
    user = int(last_stage()["USER"].partition(":")[0])
    assert pod(cron)["securityContext"]["runAsUser"] == pod(cron)["securityContext"]["fsGroup"] == user
    security = container(cron)["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    mounted = {mount["name"]: mount["mountPath"] for mount in container(cron)["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod(cron)["volumes"]}
    arguments = container(cron)["args"]
    # With `fsGroup`, the group may write to the volume's root, which propsync refuses as a state folder.
    assert arguments[arguments.index("--state-dir") + 1].startswith(mounted["state"] + "/")


def test_the_job_of_the_page_finds_its_key() -> None:
    (maps,) = [manifest for manifest in manifests() if manifest["kind"] == "ConfigMap"]
    job = parse_job(maps["data"]["nightly.yml"], folder=Path("/work"), name="nightly")
    (cron,) = [manifest for manifest in manifests() if manifest["kind"] == "CronJob"]
    places = [mount["mountPath"] for mount in container(cron)["volumeMounts"]]
    for file in (job.api_key_file, *job.source):
        assert any(str(file).startswith(place + "/") for place in places), file


@pytest.mark.package
def test_the_manifests_of_the_page_are_as_kubernetes_schema_has_them(tmp_path: Path) -> None:
    (tmp_path / "page.yml").write_text(yaml.safe_dump_all(manifests()))
    tool = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run(
        [tool, "--strict", tmp_path / "page.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed for resource") == len(manifests())


@pytest.mark.package
def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def engine_output(*words: str | Path) -> str:
    """What an engine's command printed; it must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def succeeds(*words: str) -> bool:
    return not subprocess.run(words, capture_output=True, check=False, timeout=300).returncode


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """Docker or podman, with the image `propsync:test` built."""
    found = [name for name in ("docker", "podman") if shutil.which(name) and succeeds(name, "info")]
    if not found:
        pytest.skip("neither docker nor podman has an engine here")
    base = instructions()[1][1].split()[0].replace("${PYTHON}", instructions()[0][1].partition("=")[2])
    if not succeeds(found[0], "image", "inspect", base) and not succeeds(found[0], "pull", base):
        pytest.skip(f"{found[0]} has no image {base}, and can't pull it")
    engine_output(found[0], "build", "--tag", "propsync:test", REPOSITORY)
    yield found[0]
    subprocess.run([found[0], "rmi", "propsync:test"], check=False)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder that every user may read."""
    folder = tmp_path / "work"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def run_words(engine: str, work: Path) -> Iterator[list[str]]:
    """What the page writes before the image's name, with `work` at /work, and the network of this machine."""
    volume = f"propsync-test-{os.getpid()}"
    words = [engine, "run", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    words += ["--network", "host", "--shm-size", "64m", "--tmpfs", "/tmp", "-e", f"AMPLITUDE_API_KEY={KEY}"]
    yield [*words, "-v", f"{work}:/work:ro", "-v", f"{volume}:/state"]
    engine_output(engine, "volume", "rm", volume)


@pytest.mark.package
@pytest.mark.timeout(900)
def test_a_job_runs_in_the_image(run_words: list[str], sandbox: Sandbox, work: Path) -> None:
    shutil.copytree(REPOSITORY / "sample_data", work, dirs_exist_ok=True)
    assert engine_output(*run_words, "--rm", "--entrypoint", "id", "propsync:test", "-u") == "10001\n"
    command = ["run", "users-csv.yml", "--state-dir", "/state/sample", "--json"]
    command += ["--endpoint", sandbox.url, "--rate", "max"]
    summary = json.loads(engine_output(*run_words, "--rm", "propsync:test", *command))
    assert summary["accepted"] == sandbox.stats.identifications > 0


@pytest.mark.package
@pytest.mark.timeout(900)
def test_a_run_that_its_engine_stops_is_resumed_on_the_same_volume(run_words: list[str], work: Path) -> None:
    rows = 60_000  # of more than 16 MB: a second process makes the chunks
    lines = (f"user-{number:08d},{number % 7},{'x' * 300}" for number in range(rows))
    (work / "users.csv").write_text("\n".join(["user_id,visits,not mapped", *lines, ""]))
    (work / "job.yml").write_text(
        "source: users.csv\nidentification: {user_id: user_id, user_properties: {visits: visits}}\n"
    )
    engine, name = run_words[0], f"propsync-test-{os.getpid()}"
    with running_sandbox(SandboxOptions(latency=0.5)) as sandbox:
        command = ["propsync:test", "run", "job.yml", "--state-dir", "/state/job", "--json"]
        command += ["--endpoint", sandbox.url, "--rate", "max"]
        engine_output(*run_words, "--detach", "--name", name, *command)
        try:
            until(lambda: sandbox.stats.identifications > rows / 10)
            engine_output(engine, "stop", "--time", "60", name)
            assert engine_output(engine, "wait", name) == "130\n"
        finally:
            subprocess.run([engine, "rm", "--force", name], check=True)
        assert sandbox.stats.identifications < rows
        summary = json.loads(engine_output(*run_words, "--rm", *command))
        assert summary["rows"] == rows
        # Process 1 got the signal itself, and waited for what was in flight: nothing was sent twice.
        assert sandbox.stats.identifications == rows
