"""Two exports of the real world go through every command, and arrive value for value.

What is expected is computed from the files by plain Python, without the code under test.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.sandbox import Sandbox
from tests.acceptance import sending
from tests.acceptance.reading_back import properties, read_back
from tests.acceptance.sending import ROW_ENDS, holds_the_law
from tests.commands import REPOSITORY, Finished, Propsync

REAL_DATA = Path(os.environ.get("PROPSYNC_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
CDNOW = REAL_DATA / "cdnow_customers.csv"
USERDATA = REAL_DATA / "userdata.parquet"
pytestmark = pytest.mark.skipif(
    not (CDNOW.exists() and USERDATA.exists()), reason=f"the real exports are not at {REAL_DATA}"
)

CDNOW_JOB = """
identification:
  user_id: {column: ID, transform: [{prefix: cdnow-}]}
  user_properties:
    repeat purchases: {column: frequency, type: integer}
    recency: {column: recency, type: number}
    T: {column: T, type: number}
    as_written: recency
"""
USERDATA_JOB = """
identification:
  user_id: email
  country: country
  user_properties:
    $set:
      name: {column: first_name, transform: [upper]}
      gender: {column: gender, null: unset}
      birthdate: {column: birthdate, type: date, transform: [{date_format: "%m/%d/%Y"}]}
      salary: salary
      title: title
      comments: comments
      registered: registration_dttm
      number: id
      email_sha256: {column: email, transform: [trim, lower, sha256]}
      source_system: {value: kylo}
    $setOnce: {first_title: title}
partial_families: reset
"""


def write_job(folder: Path, text: str) -> Path:
    job = folder / "job.yml"
    job.write_text(text)
    return job


def send(propsync: Propsync, sandbox: Sandbox, *arguments: str | Path) -> Finished:
    return sending.send(propsync, sandbox, *arguments, "--json")


# --- cdnow_customers.csv ---------------------------------------------------------------------------------


def expected_cdnow() -> dict[str, dict[str, Any]]:
    with CDNOW.open(newline="") as file:
        return {
            f"cdnow-{row['ID']}": {
                "repeat purchases": int(row["frequency"]),
                "recency": float(row["recency"]),
                "T": float(row["T"]),
                "as_written": row["recency"],
            }
            for row in csv.DictReader(file)
        }


def arrived(sandbox: Sandbox, users: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The user properties of these users, some of whom are also read back as anybody would."""
    found = {user: dict(sandbox.profiles.users[user].properties) for user in users}
    few = [*found][::50]
    assert properties(sandbox.url, few) == {user: found[user] for user in few}
    return found


def test_every_customer_of_cdnow_arrives(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    finished = send(propsync, sandbox, write_job(tmp_path, CDNOW_JOB), CDNOW)
    assert finished.code == 0
    expected = expected_cdnow()
    assert len(expected) == 2357
    assert arrived(sandbox, expected) == expected
    assert finished.summary["rows"] == finished.summary["accepted"] == 2357
    assert holds_the_law(finished.summary)


def test_numbers_of_cdnow_keep_their_types(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    send(propsync, sandbox, write_job(tmp_path, CDNOW_JOB), CDNOW)
    third = properties(sandbox.url, ["cdnow-3"])["cdnow-3"]
    assert {name: type(value) for name, value in third.items()} == {
        "repeat purchases": int,
        "recency": float,
        "T": float,
        "as_written": str,
    }


def test_check_foretells_what_cdnow_comes_to(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    job = write_job(tmp_path, CDNOW_JOB)
    checked = propsync("check", job, CDNOW, "--rate", "max", "--json")
    assert checked.code == 0
    sent = send(propsync, sandbox, job, CDNOW).summary
    alike = ("rows", *ROW_ENDS, "requests")
    assert {name: checked.summary[name] for name in alike} == {name: sent[name] for name in alike}
    assert abs(checked.summary["bytes"] - sent["bytes"]) <= 8 * sent["requests"]  # our key is shorter


def test_preview_shows_what_will_be_sent(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    finished = propsync("preview", write_job(tmp_path, CDNOW_JOB), CDNOW, "-n", "3")
    shown = [json.loads(line) for line in finished.out.splitlines()]
    expected = expected_cdnow()
    assert shown == [
        {"user_id": f"cdnow-{number}", "user_properties": {"$set": expected[f"cdnow-{number}"]}}
        for number in (1, 2, 3)
    ]
    assert not sandbox.stats.requests


# --- userdata.parquet ------------------------------------------------------------------------------------


def userdata() -> list[dict[str, Any]]:
    table = pq.read_table(USERDATA)
    position = table.column_names.index("registration_dttm")
    texts = pa.compute.strftime(table["registration_dttm"].cast(pa.timestamp("s")), "%Y-%m-%dT%H:%M:%S")
    rows: list[dict[str, Any]] = table.set_column(position, "registration_dttm", texts).to_pylist()
    return rows


def iso_date(text: str) -> str | None:
    """`3/8/1971` as `1971-03-08`; None for what is not a date."""
    parts = text.split("/")
    if len(parts) != 3:
        return None
    month, day, year = map(int, parts)
    return f"{year:04}-{month:02}-{day:02}"


def is_bad(row: dict[str, Any]) -> bool:
    return not row["email"] or bool(row["birthdate"] and iso_date(row["birthdate"]) is None)


def described(row: dict[str, Any]) -> dict[str, Any]:
    """The properties that a row describes; what it says nothing of isn't among them."""
    found = {
        "name": row["first_name"].upper(),
        "gender": row["gender"],
        "birthdate": iso_date(row["birthdate"]) if row["birthdate"] else None,
        "salary": row.get("salary"),
        "title": row["title"],
        "comments": row.get("comments"),
        "registered": row["registration_dttm"],
        "number": row["id"],
        "email_sha256": hashlib.sha256(row["email"].strip().lower().encode()).hexdigest(),
        "source_system": "kylo",
    }
    return without_nulls(found)


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def expected_users(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every user after all rows: the last value wins, but the first title stays the first."""
    users: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not is_bad(row):
            first = {"first_title": row["title"]}
            users[row["email"]] = first | users.get(row["email"], {}) | described(row)
    return users


def test_every_user_arrives_but_those_who_can_t(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    finished = send(propsync, sandbox, write_job(tmp_path, USERDATA_JOB), USERDATA)
    assert finished.code == 3
    expected = expected_users(userdata())
    assert arrived(sandbox, expected) == expected
    countries = {row["email"]: row["country"] for row in userdata() if row["email"]}
    assert all(sandbox.profiles.users[user].fields["country"] == countries[user] for user in expected)
    assert read_back(sandbox.url, ["ajordan0@com.com"])["ajordan0@com.com"]["country"] == "Indonesia"
    assert len(sandbox.profiles) == len(expected) == 983
    assert finished.summary["rejects_by_code"] == {"missing_id": 16, "bad_date": 1}
    assert finished.summary["rows"] == 1000
    assert holds_the_law(finished.summary)


def test_some_values_that_people_would_check_by_hand(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    send(propsync, sandbox, write_job(tmp_path, USERDATA_JOB), USERDATA)
    amanda = properties(sandbox.url, ["ajordan0@com.com"])["ajordan0@com.com"]
    assert amanda["birthdate"] == "1971-03-08"
    assert amanda["registered"] == "2016-02-03T07:55:29"
    assert amanda["salary"] == 49756.53
    arrived = {profile.properties.get("comments") for profile in sandbox.profiles.users.values()}
    assert {"<script>alert('hi')</script>", "1;DROP TABLE users", "\u202btest\u202b", "0/0"} <= arrived


def test_the_rejects_are_the_rows_as_they_stood(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    send(propsync, sandbox, write_job(tmp_path, USERDATA_JOB), USERDATA)
    found = [json.loads(line) for line in rejects_file(tmp_path).read_text().splitlines()]
    bad = {number: row for number, row in enumerate(userdata(), 1) if is_bad(row)}
    assert {reject["row"]: reject["values"] for reject in found} == bad
    assert [reject["row"] for reject in found] == sorted(bad)
    assert Counter(reject["code"] for reject in found) == {"missing_id": 16, "bad_date": 1}
    assert {Path(reject["source"]).name for reject in found} == {"userdata.parquet"}
    (date,) = [reject for reject in found if reject["code"] == "bad_date"]
    assert date["row"] == 588
    assert "birthdate" in date["reason"]


def test_fixed_rejects_are_a_source(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    job = write_job(tmp_path, USERDATA_JOB)
    send(propsync, sandbox, job, USERDATA)
    fixed = []
    for number, line in enumerate(rejects_file(tmp_path).read_text().splitlines()):
        reject = json.loads(line)
        reject["values"] |= {"email": f"fixed-{number}@example.com", "birthdate": "12/31/1999"}
        fixed.append(reject)
    rejects_file(tmp_path).write_text("".join(json.dumps(reject) + "\n" for reject in fixed))
    finished = send(propsync, sandbox, job, rejects_file(tmp_path))
    assert finished.code == 0
    assert finished.summary["accepted"] == finished.summary["rows"] == 17
    expected = expected_users([reject["values"] for reject in fixed])
    assert arrived(sandbox, expected) == expected
    assert rejects_file(tmp_path).read_text() == ""


def test_the_last_of_many_rows_of_a_user_wins(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    """Near and far from each other: merged in one request, and sent one after the other in two."""
    rows = userdata()
    later = [
        row | {"title": f"title {place}", "salary": None if place % 2 else float(place)}
        for place, row in enumerate(rows)
    ]
    near = [row for pair in zip(rows[:400], later[:400], strict=True) for row in pair]
    mixed = near + rows[400:] + later[300:]
    table = pa.Table.from_pylist(mixed)
    pq.write_table(table, tmp_path / "many.parquet", row_group_size=300)
    finished = send(
        propsync, sandbox, write_job(tmp_path, USERDATA_JOB), tmp_path / "many.parquet", "--batch-size", "70"
    )
    expected = expected_users(mixed)
    assert arrived(sandbox, expected) == expected
    assert finished.summary["merged"] > 0
    assert finished.summary["accepted"] > len(expected)
    assert holds_the_law(finished.summary)


def rejects_file(folder: Path) -> Path:
    return folder / ".propsync" / "job" / "rejects.ndjson"


# --- init ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("export", "code"), [(CDNOW, 0), (USERDATA, 3)])
def test_the_proposed_job_runs_as_it_is(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, export: Path, code: int
) -> None:
    assert propsync("init", export, "-o", tmp_path / "proposed.yml").code == 0
    finished = send(propsync, sandbox, tmp_path / "proposed.yml")
    assert finished.code == code
    assert finished.summary["accepted"] == finished.summary["rows"] - finished.summary["rejected"]
    assert holds_the_law(finished.summary)
    assert len(sandbox.profiles) >= 983


def test_init_names_the_identity_and_personal_data(propsync: Propsync, tmp_path: Path) -> None:
    finished = propsync("init", USERDATA)
    assert finished.code == 0
    assert "user_id: email" in finished.out
    assert "sha256" in finished.out
    assert "cc" in finished.out
    assert propsync("init", USERDATA, "--output", "-").out == finished.out
    assert not list(tmp_path.iterdir())


def test_init_writes_no_part_of_a_job_file_and_never_over_the_export(
    propsync: Propsync, tmp_path: Path
) -> None:
    export = tmp_path / "users.csv"
    export.write_text("user_id," + ",".join(f"column_{n}" for n in range(40)) + "\nu-1" + ",x" * 40 + "\n")
    before = export.read_bytes()
    ended = propsync("init", export, "-o", export, "--force")
    assert (ended.code, export.read_bytes()) == (2, before)
    assert "--output would replace a file of the source" in ended.err
    assert propsync("init", export, "-o", tmp_path / "nowhere" / "job.yml").code == 2
    with propsync.begin("init", export, "-o", tmp_path / "job.yml", before=nearly_full_disk) as running:
        assert running.wait().code == 8
    assert not (tmp_path / "job.yml").exists()


def nearly_full_disk() -> None:
    """No file grows beyond 500 bytes, which is an error and no signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))


def test_init_replaces_no_file_unless_told(propsync: Propsync, tmp_path: Path) -> None:
    job = tmp_path / "job.yml"
    job.write_text("mine")
    assert propsync("init", CDNOW, "-o", job).code == 2
    assert job.read_text() == "mine"
    assert propsync("init", CDNOW, "-o", job, "--force").code == 0
    assert "identification:" in job.read_text()
