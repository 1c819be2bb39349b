"""The plan in words and as a page, made of plans of real exports."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etl.errors import REMEDIES
from etl.job.spec import parse_job
from etl.listeners.plan_text import WIDTH, plan_lines
from etl.listeners.report import plan_page
from etl.pipeline.plan import plan_job
from etl.pipeline.settings import Settings
from etl.reader import open_source
from etl.text import MASK, columns
from tests.docs.pages import DOCS
from tests.listeners.test_report import Outline

SECRET = "Zaphod"
HOSTILE = [
    "<script>alert(1)</script>",
    "\u202eRTL",
    f"{SECRET}&<b>" + "x" * 10_000,
    '"><img src=x onerror=1>',
]
JOB = """\
source: users.csv
identification:
  user_id: id
  user_properties:
    "<i>plan": {column: "<i>plan", transform: [trim], too_long: truncate}
    fee: {column: fee, type: number}
    age: {column: age, type: integer, invalid: skip}
    kind: {value: "<u>export"}
"""
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def planned(folder: Path, rows: list[tuple[str, str, str, str]], **settings: Any) -> dict[str, Any]:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    (folder / "users.csv").write_text("\n".join(["id,<i>plan,fee,age", *quoted]) + "\n")
    job = parse_job(JOB, name="job.yml", folder=folder)
    plan = plan_job(job, open_source([str(folder / "users.csv")]), settings=Settings(**settings))
    return plan.as_dict(now=NOW) | {"masked": plan.as_dict(mask=True, now=NOW)}


def hostile_rows(n: int, bad: int) -> list[tuple[str, str, str, str]]:
    return [
        (f"{SECRET}-{i}", HOSTILE[i % 4], f"{SECRET}{HOSTILE[i % 4]}" if i < bad else "1.5", HOSTILE[i % 4])
        for i in range(n)
    ]


def test_names_of_any_length_leave_the_page_small(tmp_path: Path) -> None:
    plan = planned(tmp_path, hostile_rows(80, 9))
    name = HOSTILE[2]
    plan["properties"][0] |= {"property": name, "column": name}
    plan["rejected_values"][0]["column"] = plan["job"] = name
    plan["samples"][0] |= {"before": {name: name}, "after": {name: name}}
    page = plan_page(plan)
    assert len(page) < 40_000
    assert Outline(page).tags == Outline(plan_page(planned(tmp_path, hostile_rows(80, 9)))).tags


@pytest.mark.parametrize("bad", [0, 3, 60])
def test_hostile_values_are_inert_and_nothing_is_loaded(tmp_path: Path, bad: int) -> None:
    page = plan_page(planned(tmp_path, hostile_rows(80, bad)))
    found = Outline(page)
    assert found.tags.isdisjoint({"script", "img", "link", "b", "i", "u", "iframe", "a"})
    assert not any(name.startswith("on") or name in {"src", "href"} for name in found.attributes)
    assert "default-src 'none'" in page
    assert "\u202e" not in page
    assert "x" * 200 not in page
    assert ("Rejected rows" in found.text) == (bad > 0)
    assert "<script>alert(1)</script>" in found.text  # as text
    assert "Values left out of rows that went without them" in found.text


def test_masked_nothing_of_a_user_is_left(tmp_path: Path) -> None:
    plan = planned(tmp_path, hostile_rows(80, 9))
    assert SECRET in plan_page(plan)
    masked = plan["masked"]
    texts = plan_page(masked), json.dumps(masked), "\n".join(line for line, _ in plan_lines(masked))
    for text in texts:
        assert SECRET not in text
        assert "alert" not in text
        assert MASK in text or json.dumps(MASK)[1:-1] in text


@pytest.mark.parametrize("plain", ["", "    plain: mail\n"])
@pytest.mark.parametrize("more", ["", ", type: number, invalid: skip", ", type: number"])
def test_of_what_is_hashed_only_hashes_are_shown(tmp_path: Path, more: str, plain: str) -> None:
    (tmp_path / "users.csv").write_text(f"id,mail\nuser-1,{SECRET}@example.com\nuser-2,\n")
    names = f"    hash: {{column: mail, transform: [lower, sha256]{more}}}\n    same: {{value: 1}}\n{plain}"
    text = f"source: users.csv\nidentification:\n  user_id: id\n  user_properties:\n{names}"
    job = parse_job(text, name="job.yml", folder=tmp_path)
    source = open_source([str(tmp_path / "users.csv")])
    plan = plan_job(job, source, settings=Settings()).as_dict(now=NOW)
    assert SECRET.lower() not in json.dumps(plan)
    for shown in (json.dumps(plan), plan_page(plan)):
        assert (SECRET in shown) is bool(plain)
    if not plain:
        assert all(SECRET not in line for line, _ in plan_lines(plan))


def test_the_page_tells_mapping_figures_and_cost(tmp_path: Path) -> None:
    rows = [("user-1", " pro", "1.5", "7"), ("user-2", "pro", "2.5", ""), ("user-3", "free", "x", "old")]
    rows.append(("user-4", "", "2.5", "old"))
    text = Outline(plan_page(planned(tmp_path, rows, rate=0.01))).text
    for words in (
        "4 rows read",
        "rejected 1 25.0 %",
        "from column <i>plan ; trim, too long: truncate",
        "66.7 % filled, 1 distinct",
        "time at the given rate 5 min 00 s end on 2026-05-01, if it begins now 12:05",
        "user-1 in the export id user-1",
        'users.csv row 3: column fee: "x" is not a number',
        "bad_number 1 100 %",
        'fee : bad_number "x" (1)',
        "Remedy: set `decimal`",
    ):
        assert words in text


def test_lines_fit_80_columns_and_tell_values(tmp_path: Path) -> None:
    lines = [line for line, _ in plan_lines(planned(tmp_path, hostile_rows(80, 9)))]
    # The reason of a reject is shown whole.
    assert [line for line in lines if columns(line) > WIDTH and ": column fee:" not in line] == []
    assert any(line.startswith("    fee: bad_number  9  ") for line in lines)


def test_the_remedies_are_of_codes_that_the_docs_list() -> None:
    listed = (DOCS / "running.md").read_text()
    assert [code for code in REMEDIES if f"| `{code}` |" not in listed and code != "dropped"] == []
