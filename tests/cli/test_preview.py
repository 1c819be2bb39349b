"""`preview`: a table on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etl.cli.commands.preview import _tables
from etl.pipeline.preview import PreviewedRow
from tests.acceptance import exports
from tests.commands import Propsync


@pytest.fixture
def job(tmp_path: Path) -> Path:
    exports.write_csv(tmp_path / "users.csv", 40, bad=(7,))
    return exports.write_job(tmp_path, source="users.csv")


def ids(out: str) -> list[str]:
    return [json.loads(line)["user_id"] for line in out.splitlines()]


def test_one_user_and_a_sample_as_lines(propsync: Propsync, job: Path) -> None:
    assert ids(propsync("preview", job, "--user", "user-000030").out) == ["user-000030"]
    sample = ids(propsync("preview", job, "--sample", "5").out)
    assert sample == ids(propsync("preview", job, "--sample", "5", "--json").out)
    assert sample != ids(propsync("preview", job, "--sample", "5", "--seed", "1").out)
    nobody = propsync("preview", job, "--user", "user-000007")
    assert (nobody.code, nobody.out) == (0, "")
    assert "user-000007" in nobody.err
    assert propsync("preview", job, "--sample", "5", "-n", "3").code == 2


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_fits_and_has_all_of_each_value(width: int) -> None:
    found = [
        {
            "user_id": f"user-{number}",
            "user_properties": {
                "$set": {"plan": "z" * 50, "n": number, "text": "5", "evil": "a\x1b[1m[red]b"}
            },
            "groups": {"team": ["a", "b"]},
        }
        for number in range(7)
    ]
    rows = [PreviewedRow(f"{n % 2}.csv", 1000 + n, json.dumps(one)) for n, one in enumerate(found)]
    text = "".join(_tables(rows, width))
    assert max(map(len, text.splitlines())) <= width
    assert text.count("z") == 7 * 50
    assert text.count("row 1,00") == text.count('"5"') == 7
    assert {line.split(" ")[0] for line in text.splitlines()} >= {"user_id", "$set.plan", "groups.team"}
    assert "\x1b" not in text
    assert "[red]" in text
