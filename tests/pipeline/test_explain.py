"""What `explain` says of a user is what a run does with the user's rows."""

from __future__ import annotations

import csv
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import Explanation, Job, explain, preview
from etl.cli.app import propsync
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from etl.text import MASK
from tests.examples import examples
from tests.pipeline.making import run_once

COLUMNS = ("id", "device", "plan", "score")
NIGHT = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["user-1", "user-2", " user-3 ", "abc", ""]),
            "device": st.sampled_from(["", "device-1", "device-2"]),
            "plan": st.sampled_from(["", "free", "pro"]),
            "score": st.sampled_from(["", "1", "2", "k.A."]),
        }
    ),
    min_size=1,
    max_size=8,
)
SCORE = {"column": "score", "type": "integer"}


def job_in(folder: Path, changes: str, **score: object) -> Job:
    identification = {"user_id": "id", "user_properties": {"plan": "plan", "score": {**SCORE, **score}}}
    data = {"name": "t", "source": "u.csv", "changes": changes, "identification": identification}
    return Job.of(data, folder=folder)


def write(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "u.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def explained(job: Job, user: str, sandbox: Sandbox) -> Explanation:
    return explain(job, user, endpoint=sandbox.url)


@pytest.fixture(scope="module")
def sandbox() -> Any:
    with running_sandbox(SandboxOptions()) as running:
        yield running


@settings(max_examples=examples(30, 4), deadline=None)
@given(nights=st.tuples(NIGHT, NIGHT), changes=st.sampled_from(["property", "user", "off"]))
def test_a_run_sends_what_was_said(sandbox: Sandbox, nights: tuple[Any, Any], changes: str) -> None:
    sandbox.profiles.users.clear()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = job_in(folder, changes)
        write(folder, nights[0])
        run_once(folder, sandbox, folder / "u.csv", job=job)
        write(folder, nights[1])
        expected = {}
        for user in ("user-1", "user-2", "user-3"):
            profile = sandbox.profiles.users.get(user)
            properties = dict(profile.properties) if profile else {}
            found = explained(job, user, sandbox)
            own = [number for number, row in enumerate(nights[1], start=1) if row["id"].strip() == user]
            assert [row.row for row in found.rows] == own
            for identification in found.next:
                assert identification.pop("user_id") == user
                properties |= identification["user_properties"]["$set"]
            expected[user] = properties
            assert (found.known is None) == (changes == "off")
        run_once(folder, sandbox, folder / "u.csv", job=job)
        arrived = {user: dict(profile.properties) for user, profile in sandbox.profiles.users.items()}
        assert arrived == {user: properties for user, properties in expected.items() if properties}


def test_each_value_has_its_reason(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, "property", invalid="skip")
    write(
        tmp_path,
        [
            {"id": " user-7 ", "device": "", "plan": "pro", "score": "k.A."},
            {"id": "user-8", "device": "", "plan": "", "score": ""},
            {"id": "abc", "device": "", "plan": "free", "score": "2"},
        ],
    )
    (row,) = explained(job, "user-7", sandbox).rows
    assert [(value.place, value.source, value.sent, value.reason) for value in row.values] == [
        ("user_id", " user-7 ", "user-7", None),
        ("user_properties.$set.plan", "pro", "pro", None),
        ("user_properties.$set.score", "k.A.", None, "bad_integer"),
    ]
    (row,) = explained(job, "user-8", sandbox).rows
    assert (row.values, row.code) == ((), None)
    (row,) = explained(job, "abc", sandbox).rows
    assert row.code == "short_id"
    assert explained(job, "user-9", sandbox).rows == []


def test_of_a_hashed_value_only_the_hash_is_shown(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, "property")
    hashed = {"column": "plan", "transform": ["trim", "lower", "sha256"]}
    properties = {"hashed": hashed, "again": {**hashed, "default": "none"}, "score": SCORE}
    identification = {"user_id": "id", "user_properties": properties}
    job = Job.of({"name": "t", "source": "u.csv", "identification": identification}, folder=tmp_path)
    write(tmp_path, [{"id": "user-7", "device": "", "plan": "anna@x.org", "score": "2"}])
    found = explained(job, "user-7", sandbox)
    digest = sha256(b"anna@x.org").hexdigest()
    assert [(value.source, value.sent) for value in found.rows[0].values] == [
        ("user-7", "user-7"),
        (MASK, digest),
        (MASK, digest),
        ("2", 2),
    ]
    assert "anna" not in f"{found} {list(preview(job))}"
    assert "hidden" in str(found.rows[0].values[1].reason)
    write(tmp_path, [{"id": "user-7", "device": "", "plan": "", "score": "2"}])
    assert explained(job, "user-7", sandbox).rows[0].values[2].reason == "no value in the source"


def test_a_reject_of_the_last_run_is_found(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path, "property")
    write(tmp_path, [{"id": "user-5", "device": "", "plan": "pro", "score": "many"}])
    run_once(tmp_path, sandbox, tmp_path / "u.csv", job=job)
    write(tmp_path, [{"id": "user-5", "device": "", "plan": "pro", "score": "3"}])
    found = explained(job, "user-5", sandbox)
    assert [(past["row"], past["code"], past["run"]) for past in found.rejects] == [(1, "bad_integer", 1)]
    assert found.next == [{"user_id": "user-5", "user_properties": {"$set": {"plan": "pro", "score": 3}}}]


def test_the_command_shows_it(tmp_path: Path) -> None:
    write(tmp_path, [{"id": "user-5", "device": "", "plan": "pro", "score": "7"}])
    text = "identification: {user_id: id, user_properties: {plan: plan}}"
    (tmp_path / "job.yml").write_text(f"source: u.csv\n{text}\n")
    shown = CliRunner().invoke(propsync, ["explain", str(tmp_path / "job.yml"), "--user", "user-5"])
    assert shown.exit_code == 0
    assert "u.csv, row 1" in shown.output
    assert 'plan = "pro"' in shown.output
    assert "does not know this user" in shown.output
    assert '{"user_id":"user-5","user_properties":{"$set":{"plan":"pro"}}}' in shown.output
