"""What a run left of a job file is what loading it would say, or of no use; its keys are never shown."""

from __future__ import annotations

import json
import os
import traceback
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from etl.errors import EtlError, UsageError
from etl.job.known_job import KnownJob, read_api_key, remember_job, remembered_rows
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


def with_key(tmp_path: Path, **where: str) -> Job:
    return Job.of({"identification": {"user_id": "id"}, **where}, folder=tmp_path)


def test_the_key_comes_from_its_variable(tmp_path: Path) -> None:
    assert read_api_key(with_key(tmp_path), {"AMPLITUDE_API_KEY": " abc\n"}) == "abc"
    assert read_api_key(with_key(tmp_path, api_key_env="K"), {"K": "k", "AMPLITUDE_API_KEY": "abc"}) == "k"


def test_the_key_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_bytes(b"\xef\xbb\xbfabc\r\n")
    assert read_api_key(with_key(tmp_path, api_key_file="key.txt"), {"AMPLITUDE_API_KEY": "x"}) == "abc"
    absolute = str(tmp_path / "key.txt")
    assert read_api_key(with_key(Path("elsewhere"), api_key_file=absolute), {}) == "abc"


@pytest.mark.parametrize(("environ", "words"), [({}, "K is not set"), ({"K": " "}, "K is empty")])
def test_no_key_is_told_with_a_remedy(tmp_path: Path, environ: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_api_key(with_key(tmp_path, api_key_env="K"), environ)
    assert "export K=" in str(caught.value.hint)


@pytest.mark.parametrize("key", ["c0ff ee", "c0ff\nee", "c0ff\x00ee", "c0ffée"])
def test_what_cant_be_a_key_is_refused_and_never_shown(tmp_path: Path, key: str) -> None:
    (tmp_path / "key").write_text(key)
    for job, environ in [
        (with_key(tmp_path), {"AMPLITUDE_API_KEY": key}),
        (with_key(tmp_path, api_key_file="key"), {}),
    ]:
        with pytest.raises(UsageError) as caught:
            read_api_key(job, environ)
        assert "c0ff" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"c0ff\xff"])
def test_a_key_file_without_a_key_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(EtlError, match="key file key") as caught:
        read_api_key(with_key(tmp_path, api_key_file="key"), {})
    assert caught.value.hint
    assert caught.value.__cause__ is None or b"c0ff" not in repr(caught.value.__cause__).encode()


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(UsageError, match="can't be read"):
        read_api_key(with_key(tmp_path, api_key_file="key"), {})


SECRET = "5f2c9a7e81d4b03366aa90de12f47c58"


@each_row(
    ("content", "hint"),
    [
        (f"AMPLITUDE_API_KEY={SECRET}", "after the ="),
        (f"export AMPLITUDE_API_KEY={SECRET}\n", "after the ="),
        (f"# ours\nAMPLITUDE_API_KEY = '{SECRET}'\n", "after the ="),
        (f"api_key={SECRET}", "after the ="),
        (f"KEY={SECRET}\nOTHER=1\n", "after the ="),
        (f"api_key: {SECRET}", "after the :"),
        (f'"{SECRET}"', "quotes"),
        (f"'{SECRET}'\r\n", "quotes"),
        (f"{SECRET}\n{SECRET}", "one line"),
        (f"{SECRET}\n\nsecond", "one line"),
        (f'{{"api_key": "{SECRET}"}}', "JSON"),
        (f'["{SECRET}"]', "JSON"),
        (f"key {SECRET}", "nothing else"),
        ("\ufeff" + f"KEY={SECRET}", "after the ="),
    ],
)
@each_row("place", ["file", "variable"])
def test_what_holds_more_than_the_key_is_told_without_it(
    tmp_path: Path, content: str, hint: str, place: str
) -> None:
    (tmp_path / "key.txt").write_text(content, encoding="utf-8", newline="")
    job = with_key(tmp_path, **({"api_key_file": "key.txt"} if place == "file" else {}))
    if place == "variable" and (content.startswith("\ufeff") or hint == "nothing else"):
        return
    with pytest.raises(UsageError) as caught:
        read_api_key(job, {"AMPLITUDE_API_KEY": content})
    assert hint in str(caught.value.hint)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_key_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_bytes(SECRET.encode("utf-16"))
    with pytest.raises(UsageError, match="isn't UTF-8 text") as caught:
        read_api_key(with_key(tmp_path, api_key_file="key.txt"), {})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", [SECRET, "dGhpcyBpcyBhIGtleQ==", "with&ampersand=1", '"quotes"and\\back'])
def test_a_key_alone_is_taken(tmp_path: Path, key: str) -> None:
    (tmp_path / "key.txt").write_bytes(b"\xef\xbb\xbf" + key.encode() + b"\r\n")
    assert read_api_key(with_key(tmp_path, api_key_file="key.txt"), {}) == key
