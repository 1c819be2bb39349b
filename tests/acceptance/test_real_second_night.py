"""Two exports of the real world, a few of their cells edited: exactly these arrive on the second night."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl.sandbox import Sandbox
from tests.acceptance import test_real_data
from tests.acceptance.sending import holds_the_law
from tests.acceptance.test_real_data import (
    CDNOW,
    CDNOW_JOB,
    USERDATA,
    USERDATA_JOB,
    described,
    is_bad,
    userdata,
    write_job,
)
from tests.acceptance.test_real_data import send as send_job
from tests.commands import Propsync

pytestmark = test_real_data.pytestmark


def arrived(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """What came of each user since the sandbox was reset: properties and fields."""
    return {user: {**own.properties, **own.fields} for user, own in sandbox.profiles.users.items()}


def send(propsync: Propsync, sandbox: Sandbox, *arguments: Path, code: int = 0) -> dict[str, Any]:
    finished = send_job(propsync, sandbox, *arguments)
    assert finished.code == code
    assert holds_the_law(finished.summary)
    return finished.summary


def test_a_few_edits_of_cdnow_arrive_and_nothing_else(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    job, export = write_job(tmp_path, CDNOW_JOB), tmp_path / "export.csv"
    shutil.copy(CDNOW, export)
    assert send(propsync, sandbox, job, export)["accepted"] == 2357
    sandbox.reset()
    assert send(propsync, sandbox, job, export)["requests"] == 0
    with export.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["frequency"] = "77"
    rows[1000]["recency"] = "1.5"
    rows[2000]["recency"] += "0"  # the same number; as text another
    rows[2356]["ID"] = "99999"
    with export.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(reversed(rows))
    summary = send(propsync, sandbox, job, export)
    assert (summary["accepted"], summary["unchanged"]) == (4, 2353)
    new = rows[2356]
    assert arrived(sandbox) == {
        f"cdnow-{rows[0]['ID']}": {"repeat purchases": 77},
        f"cdnow-{rows[1000]['ID']}": {"recency": 1.5, "as_written": "1.5"},
        f"cdnow-{rows[2000]['ID']}": {"as_written": rows[2000]["recency"]},
        "cdnow-99999": {
            "repeat purchases": int(new["frequency"]),
            "recency": float(new["recency"]),
            "T": float(new["T"]),
            "as_written": new["recency"],
        },
    }


def test_a_few_edits_of_userdata_arrive_and_nothing_else(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    job, export = write_job(tmp_path, USERDATA_JOB), tmp_path / "export.parquet"
    shutil.copy(USERDATA, export)
    send(propsync, sandbox, job, export, code=3)
    table, known = pq.read_table(USERDATA), userdata()
    rows, emails = table.to_pylist(), [row["email"] for row in known]
    alone = [n for n, row in enumerate(known) if not is_bad(row) and emails.count(row["email"]) == 1]
    salary, country, gender = alone[0], alone[400], next(n for n in alone[500:] if known[n]["gender"])
    (bad,) = [n for n, row in enumerate(known) if row["email"] and is_bad(row)]
    rows[salary]["salary"] = 1.0
    rows[country]["country"] = "Atlantis"
    rows[gender]["gender"] = None
    rows[bad]["birthdate"] = "12/31/1999"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), export)
    sandbox.reset()
    sandbox.profiles.apply({"user_id": emails[gender], "user_properties": {"$set": {"gender": "left"}}})
    summary = send(propsync, sandbox, job, export, code=3)
    assert summary["rejects_by_code"] == {"missing_id": 16}
    assert summary["accepted"] == 4
    mended = known[bad] | {"birthdate": "12/31/1999"}
    assert arrived(sandbox) == {
        emails[salary]: {"salary": 1.0},
        emails[country]: {"country": "Atlantis"},
        emails[gender]: {},
        emails[bad]: described(mended) | {"first_title": mended["title"], "country": mended["country"]},
    }
