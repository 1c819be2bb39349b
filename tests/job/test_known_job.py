"""What a run left of a job file is what loading it would say, or it is of no use."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from etl.errors import EtlError
from etl.job.known_job import KnownJob, remember_job, remembered_rows
from etl.job.spec import Job
from tests.examples import each_row

IDENTIFICATION = {"user_id": "id", "user_properties": {"plan": "plan", "name": "name"}}
NAMES = st.sampled_from(["nightly", "job", "a.b", "Täglich", "no", "2024"])
PLACES = st.sampled_from(["state", "../state", "a/b", "./x", "with space", ".propsync/nightly", "2024"])


@st.composite
def job_files(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    """The text of a job file, now and then a faulty one, and the variables of the environment."""
    data: dict[str, Any] = {"source": draw(st.sampled_from(["users.csv", "users-${DAY}.csv"]))}
    if draw(st.booleans()):
        data["name"] = draw(NAMES)
    if draw(st.booleans()):
        data["run"] = {"rate": "max", "state_dir": draw(PLACES)}
    if draw(st.booleans()):
        data["destination"] = {"region": draw(st.sampled_from(["eu", "http://${HOST}:8080", "mars"]))}
    if draw(st.booleans()):
        data["api_key_env"] = "OTHER_KEY"
    if draw(st.integers(0, 9)):
        data["identification"] = IDENTIFICATION
    flow = draw(st.sampled_from([True, False, None]))
    text = (
        json.dumps(data, indent=1, ensure_ascii=False)
        if flow is None
        # A folder that is broken over two lines is not guessed; then the file is loaded.
        else yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True, width=1000)
    )
    environ = {"HOST": draw(st.sampled_from(["one", "two"])), "KEY": "secret"}
    if draw(st.booleans()):
        environ["DAY"] = draw(st.sampled_from(["1", "2"]))
    return text, environ


def loaded(path: Path, environ: dict[str, str]) -> KnownJob | None:
    with suppress(EtlError):
        return KnownJob.of(Job.load(path, environ=environ))
    return None


@given(job_files(), st.none() | job_files(), st.booleans(), st.sampled_from(["job.yml", "other.yml"]))
@example((yaml.safe_dump({"identification": IDENTIFICATION}), {}), None, True, "job.yml")
def test_it_is_what_loading_the_file_says(
    ran: tuple[str, dict[str, str]], now: tuple[str, dict[str, str]] | None, elsewhere: bool, name: str
) -> None:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "jobs")
        folder.mkdir()
        path = folder / "job.yml"
        path.write_text(ran[0])
        with suppress(EtlError):
            job = Job.load(path, environ=ran[1])
            place = folder / "elsewhere" if elsewhere else job.state_dir
            place.mkdir(parents=True, exist_ok=True)
            remember_job(place, job, 5)
            assert remembered_rows(place) == 5
            assert KnownJob.find(path, place, ran[1]) == KnownJob.of(job)
            assert KnownJob.find(path, None, ran[1]) == (None if elsewhere else KnownJob.of(job))
        path = folder / name
        path.write_text((now or ran)[0])
        for given_place in (None, folder / "elsewhere"):
            environ = (now or ran)[1]
            assert KnownJob.find(path, given_place, environ) in {None, loaded(path, environ)}


def test_nothing_is_known_of_what_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yml"
    assert KnownJob.find(path, None, {}) is None
    assert KnownJob.find(tmp_path, None, {}) is None
    os.mkfifo(path)
    assert KnownJob.find(path, None, {}) is None  # it can be read only once
    path.unlink()
    path.write_bytes(b"\xff")
    assert KnownJob.find(path, None, {}) is None
    path.write_bytes(b" " * 5_000_000)
    assert KnownJob.find(path, None, {}) is None


@each_row("notes", ["", "[]", "{", '{"digest": 5}', '{"digest": "%s"}', '{"digest": "%s", "name": 5}'])
def test_damaged_notes_are_of_no_use(tmp_path: Path, notes: str) -> None:
    path = tmp_path / "job.yml"
    path.write_text(yaml.safe_dump({"identification": IDENTIFICATION}))
    job = Job.load(path, environ={})
    job.state_dir.mkdir(parents=True)
    (job.state_dir / "job.json").write_text(notes.replace("%s", job.digest))
    assert KnownJob.find(path, None, {}) is None
    assert remembered_rows(job.state_dir) is None


def test_a_job_without_a_file_leaves_only_its_rows(tmp_path: Path) -> None:
    job = Job.of({"name": "job", "identification": IDENTIFICATION}, folder=tmp_path)
    assert not job.digest
    remember_job(tmp_path, job, None)
    assert KnownJob.find(tmp_path / "job.yml", tmp_path, {}) is None
    assert remembered_rows(tmp_path) is None
