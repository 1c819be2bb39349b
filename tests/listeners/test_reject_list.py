"""A list of rejects for a spreadsheet: nothing in it is a formula, and every text can be read back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import StateError, UsageError
from etl.listeners.reject_list import RejectList
from etl.model import Reject
from etl.reader import open_source
from etl.tally import RowRange
from tests.examples import examples

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES = TEXTS | st.builds(lambda sign, text: sign + text, st.sampled_from([*FORMULAS, "'"]), TEXTS)


def listed(path: Path, rejects: list[Reject], run: int | None = 3) -> list[list[str]]:
    found = RejectList(path)
    found.add(rejects, run)
    found.write()
    with path.open(encoding="utf-8", newline="") as file:
        assert file.read(1) == "\ufeff"
        return list(csv.reader(file))


def reject(values: object, row: int = 1, origin: str = "") -> Reject:
    return Reject("users.csv", row, "bad_number", '"x" is not a number', json.dumps(values), origin=origin)


@settings(max_examples=examples(60), deadline=None)
@given(rows=st.lists(st.tuples(VALUES, VALUES), max_size=4))
def test_texts_are_no_formulas_and_can_be_read_back(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "rejects.csv"
    header, *records = listed(
        path, [reject({"id": row[0], "plan": row[1]}, n) for n, row in enumerate(rows, 1)]
    )
    assert header == ["source", "row", "code", "reason", "faults", *(["id", "plan"] if rows else [])]
    assert [record[:3] for record in records] == [
        ["users.csv", str(n + 1), "bad_number"] for n in range(len(rows))
    ]
    assert not any(cell.startswith(FORMULAS) for record in records for cell in record)
    assert [[cell.removeprefix("'") for cell in record[5:]] for record in records] == [
        list(row) for row in rows
    ]


def test_columns_keep_their_order_and_numbers_their_digits(tmp_path: Path) -> None:
    values = '{"id":null,"n":-12345678901234567890.10,"ok":true,"tags":["=a",1.50],"line":"="}'
    split = Reject("u.csv", 1, "stray_quote", "why", '{"line":"a\\"b,c"}')
    header, first, second = listed(tmp_path / "r.csv", [split, Reject("u.csv", 2, "c", "=why", values)])
    assert header[5:] == ["id", "n", "ok", "tags", "line"]
    assert first[5:] == ["", "", "", "", 'a"b,c']
    assert second[3:] == ["'=why", "'=why", "", "-12345678901234567890.10", "true", '["=a",1.50]', "'="]


def test_half_a_surrogate_pair_is_written(tmp_path: Path) -> None:
    header, record = listed(tmp_path / "rejects.csv", [reject({"id": "a\ud800", "v": ["\ud800", "b"]})])
    found = dict(zip(header, record, strict=True))
    assert (found["id"], found["v"]) == ("a?", r'["\ud800","b"]')


def test_ndjson_can_be_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "rejects.NDJSON"
    for run, expected in ((7, [7]), (None, [-1])):
        found = RejectList(path)
        found.add([reject({"id": "user-1"}, origin="csv")], run)
        found.write()
        source = open_source([str(path)])
        assert source.holds_rejects
        (batch,) = source.read(RowRange(0), used=["id"])
        assert batch.runs is not None
        assert batch.runs.tolist() == expected


def test_a_file_that_can_t_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        RejectList(tmp_path / "gone" / "rejects.csv")
    (tmp_path / "rejects.csv").mkdir()
    with pytest.raises(StateError):
        RejectList(tmp_path / "rejects.csv")
