"""Preview: the first identifications, those of a user, and a sample that is the same for one seed.

What `explain` says of a user is what a run does with the user's rows.
"""

from __future__ import annotations

import csv
import json
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
from etl.pipeline.preview import PreviewedRow, first_rows, sampled_rows
from etl.reader import Source, open_source
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from etl.text import MASK
from tests.examples import examples
from tests.pipeline.making import run_once
from tests.pipeline.nights import Row, job_in, users, write

BOTH = {"user_id": "id", "device_id": "device", "user_properties": {"plan": "plan"}}


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    rows = users(range(60))
    rows[10] |= {"id": "x"}  # a reject
    return [str(write(tmp_path / f"{n}.ndjson", part)) for n, part in enumerate((rows[:25], rows[25:]))]


def source_of(paths: list[str], batch_rows: int = 7) -> Source:
    return open_source(paths, batch_rows=batch_rows)


def places(rows: list[PreviewedRow]) -> list[tuple[int, int]]:
    """File and row of each, which its identification must be of."""
    found = [(int(Path(row.source).stem), row.row) for row in rows]
    ids = [int(json.loads(row.json)["user_id"].removeprefix("user-")) for row in rows]
    assert ids == [file * 25 + row - 1 for file, row in found]
    return found


@pytest.mark.parametrize("count", [1, 7, 8, 24, 26, 59, 100])
def test_the_first_rows_come_with_their_places(paths: list[str], count: int, tmp_path: Path) -> None:
    every = [(n // 25, n % 25 + 1) if n < 25 else (1, n - 24) for n in range(60) if n != 10]
    assert places(list(first_rows(job_in(tmp_path), source_of(paths), count=count))) == every[:count]


def test_a_user_is_looked_for_in_all_of_the_source(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"id": f"user-{n % 9}", "device": f"device-{n % 5}", "plan": str(n)} for n in range(90)
    ]
    rows[4]["id"] = None
    job, path = job_in(tmp_path, BOTH), write(tmp_path / "0.ndjson", rows)

    def rows_of(user: str, count: int | None = None) -> list[int]:
        return [row.row - 1 for row in first_rows(job, source_of([str(path)]), count=count, user=user)]

    assert rows_of("user-4") == [n for n in range(90) if n % 9 == 4 and n != 4]
    assert rows_of("device-4") == [n for n in range(90) if n % 5 == 4]
    assert rows_of("user-1", 3) == [1, 10, 19]
    assert rows_of("nobody") == []


@pytest.mark.parametrize("count", [1, 10, 59, 70])
def test_a_sample_depends_on_its_seed_alone(paths: list[str], count: int, tmp_path: Path) -> None:
    def sample(seed: int, batch_rows: int) -> list[tuple[int, int]]:
        job: Job = job_in(tmp_path)
        return places(list(sampled_rows(job, source_of(paths, batch_rows), count=count, seed=seed)))

    assert sample(1, 7) == sample(1, 60) == sorted(sample(1, 3))
    assert len(set(sample(1, 7))) == min(count, 59)
    assert count >= 59 or sample(1, 7) != sample(2, 7)


def test_every_row_has_the_same_chance(paths: list[str], tmp_path: Path) -> None:
    job, source = job_in(tmp_path), source_of(paths)
    drawn = [row.row + 25 * int(Path(row.source).stem == "1") for seed in range(40)
             for row in sampled_rows(job, source, count=12, seed=seed)]  # fmt: skip
    counts = [drawn.count(number) for number in range(1, 61) if number != 11]
    assert min(counts) > 1  # 8 on average
    assert max(counts) < 20


# --- all of one user --------------------------------------------------------------------------------------

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


def job_of(folder: Path, changes: str, **score: object) -> Job:
    identification = {"user_id": "id", "user_properties": {"plan": "plan", "score": {**SCORE, **score}}}
    data = {"name": "t", "source": "u.csv", "changes": changes, "identification": identification}
    return Job.of(data, folder=folder)


def write_csv(folder: Path, rows: list[dict[str, str]]) -> None:
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
        job = job_of(folder, changes)
        write_csv(folder, nights[0])
        run_once(folder, sandbox, folder / "u.csv", job=job)
        write_csv(folder, nights[1])
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
    job = job_of(tmp_path, "property", invalid="skip")
    write_csv(
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
    job = job_of(tmp_path, "property")
    hashed = {"column": "plan", "transform": ["trim", "lower", "sha256"]}
    properties = {"hashed": hashed, "again": {**hashed, "default": "none"}, "score": SCORE}
    identification = {"user_id": "id", "user_properties": properties}
    job = Job.of({"name": "t", "source": "u.csv", "identification": identification}, folder=tmp_path)
    write_csv(tmp_path, [{"id": "user-7", "device": "", "plan": "anna@x.org", "score": "2"}])
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
    write_csv(tmp_path, [{"id": "user-7", "device": "", "plan": "", "score": "2"}])
    assert explained(job, "user-7", sandbox).rows[0].values[2].reason == "no value in the source"


def test_a_reject_of_the_last_run_is_found(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_of(tmp_path, "property")
    write_csv(tmp_path, [{"id": "user-5", "device": "", "plan": "pro", "score": "many"}])
    run_once(tmp_path, sandbox, tmp_path / "u.csv", job=job)
    write_csv(tmp_path, [{"id": "user-5", "device": "", "plan": "pro", "score": "3"}])
    found = explained(job, "user-5", sandbox)
    assert [(past["row"], past["code"], past["run"]) for past in found.rejects] == [(1, "bad_integer", 1)]
    assert found.next == [{"user_id": "user-5", "user_properties": {"$set": {"plan": "pro", "score": 3}}}]


def test_the_command_shows_it(tmp_path: Path) -> None:
    write_csv(tmp_path, [{"id": "user-5", "device": "", "plan": "pro", "score": "7"}])
    text = "identification: {user_id: id, user_properties: {plan: plan}}"
    (tmp_path / "job.yml").write_text(f"source: u.csv\n{text}\n")
    shown = CliRunner().invoke(propsync, ["explain", str(tmp_path / "job.yml"), "--user", "user-5"])
    assert shown.exit_code == 0
    assert "u.csv, row 1" in shown.output
    assert 'plan = "pro"' in shown.output
    assert "does not know this user" in shown.output
    assert '{"user_id":"user-5","user_properties":{"$set":{"plan":"pro"}}}' in shown.output
