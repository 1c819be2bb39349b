"""The way that docs/messy-exports.md shows brings in what can be brought in, with few edits of YAML alone."""

from __future__ import annotations

import csv
import re
from datetime import datetime
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

import pytest

from etl import Job
from etl.init import propose_job
from etl.sandbox import Sandbox
from tests.docs.pages import DOCS, ROOT, blocks
from tests.pipeline.making import run_once
from tests.pipeline.nights import arrived

EXPORT: Final = ROOT / "sample_data" / "kunden.csv"
MOST_EDITS: Final = 10
NULLS: Final = {"", "k.A.", "NULL"}
FORMATS: Final = ("%d.%m.%Y", "%Y-%m-%d", "%m/%d/%y")


def code_lines(text: str) -> list[str]:
    """Lines of YAML without comments."""
    lines = (re.sub(r"(^|\s+)#.*", "", line) for line in text.splitlines())
    return [line.rstrip() for line in lines if line.strip()]


def edited_job() -> str:
    (block,) = (block for block in blocks(DOCS / "messy-exports.md", "yaml") if block.note == "kunden.yml")
    return block.text


def amount(text: str) -> float | None:
    found = re.fullmatch(r"(?:EUR )?(\d{1,3}(?:\.\d{3})*),(\d\d)(?: €)?", text)
    return float(f"{found[1].replace('.', '')}.{found[2]}") if found else None


def day(text: str) -> str | None:
    for form in FORMATS:
        try:
            return datetime.strptime(text, form).date().isoformat()
        except ValueError:
            pass
    return None


def meant(row: dict[str, str]) -> dict[str, Any]:
    """What a person sees in a row."""
    given = {key: value for key, value in row.items() if value.strip() not in NULLS}
    found = {
        "Tarif": given.get("Tarif", "").lower() or None,
        "Umsatz (€)": amount(given.get("Umsatz (€)", "")),
        "Kunde seit": day(given.get("Kunde seit", "")),
        "Newsletter": {"Ja": True, "ja": True, "nein": False}.get(given.get("Newsletter", "")),
        "Tags": given["Tags"].split(", ") if "Tags" in given else None,
        "Land": given.get("Land"),
        "PLZ": given.get("PLZ"),
        "Zufriedenheit": float(given["Zufriedenheit"].replace(",", "."))
        if "Zufriedenheit" in given
        else None,
        "Notiz": given.get("Notiz"),
    }
    return {key: value for key, value in found.items() if value is not None}


def test_with_few_edits_of_yaml_nearly_every_row_arrives_right(tmp_path: Path, sandbox: Sandbox) -> None:
    with EXPORT.open(encoding="cp1252", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    rows = rows[:-1]  # it was cut off
    users: dict[str, dict[str, Any]] = {}
    usable = 0
    for row in rows:
        key = row["Kunden-Nr"].strip().upper()
        if key not in NULLS and len(key) >= 5:
            usable += 1
            users.setdefault(key, {}).update(meant(row))
    assert (len(rows) + 1, usable) == (300, 292)

    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    (tmp_path / "kunden.yml").write_text(edited_job(), encoding="utf-8")
    job = Job.load(tmp_path / "kunden.yml")
    summary = run_once(tmp_path, sandbox, EXPORT, job=job)
    held = arrived(sandbox)
    wrong = {key for key in users.keys() | held.keys() if users.get(key) != held.get(key)}
    right = sum(row["Kunden-Nr"].strip().upper() in users.keys() - wrong for row in rows)
    assert right >= 0.97 * usable, {key: (users.get(key), held.get(key)) for key in sorted(wrong)[:5]}
    assert summary.rejects_by_code == {"missing_id": 6, "short_id": 1, "unclosed_quote": 1}


def test_the_edits_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sample_data").symlink_to(ROOT / "sample_data")
    proposed = propose_job(["sample_data/kunden.csv"], Path("kunden.yml")).text
    before, after = code_lines(proposed), code_lines(edited_job())
    changes = [
        (before[first:stop], after[start:end])
        for kind, first, stop, start, end in SequenceMatcher(None, before, after, False).get_opcodes()
        if kind != "equal"
    ]
    assert sum(max(len(old), len(new)) for old, new in changes) <= MOST_EDITS, changes
