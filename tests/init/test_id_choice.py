from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from etl.errors import SourceError
from etl.job.column_spec import ColumnSpec, Step
from etl.reader import open_source
from tests.examples import each_row
from tests.init.proposals import csv_source, job_of, proposed, rejects_of, table_source

LONG = [f"person-{number}" for number in range(10)]
MAILS = [f"p{number}@example.com" for number in range(10)]
OTHERS = [str(number + 77000) for number in range(10)]


def ids_of(columns: Mapping[str, Sequence[object] | pa.Array]) -> dict[str, ColumnSpec]:
    source = table_source(columns)
    fields = job_of(proposed(source), source).identification.fields
    return {name: spec for name, spec in fields.items() if name in {"user_id", "device_id"}}


@each_row(
    ("columns", "chosen"),
    [
        ({"plan": ["a"] * 10, "user_id": LONG}, "user_id"),
        ({"id": OTHERS, "customerId": [*LONG[:5], *LONG[:5]]}, "customerId"),
        ({"email": MAILS, "id": OTHERS}, "id"),
        ({"column_1": MAILS, "column_2": LONG}, "column_2"),  # of a file without a header
        ({"id": list(range(1, 11)), "email": MAILS}, "email"),
        ({"id": list(range(10)), "email": MAILS}, "email"),
        ({"id": list(range(1, 11)), "plan": ["a"] * 10}, "id"),
        ({"contact": MAILS, "order_id": OTHERS}, "contact"),
        ({"code": LONG, "plan": list("aabbccddee")}, "code"),
        ({"plan": LONG, "order_id": OTHERS}, "order_id"),
        ({"note": [f"some words {n}" for n in range(10)], "ref": LONG}, "ref"),
        ({"user_id": ["person-1"] * 10, "email": MAILS}, "email"),
        ({"user_id": [*[None] * 5, *LONG[:5]], "plan": list("aabbccddee")}, "user_id"),
        ({"password": LONG, "email": MAILS}, "email"),
        ({"user_id": [True, False] * 5, "email": MAILS}, "email"),
        ({"day": [f"2024-01-{day:02}" for day in range(10, 20)], "ref": LONG}, "ref"),
    ],
)
def test_the_likeliest_identity_is_chosen(columns: dict[str, list[object]], chosen: str) -> None:
    assert {spec.column for spec in ids_of(columns).values()} == {chosen}


def test_short_ids_get_a_prefix_and_good_ones_stay(tmp_path: Path) -> None:
    rows = "".join(f"{number},x\n" for number in range(1, 20))
    short = csv_source(tmp_path, "ID,v\n" + rows, "cdnow_customers.csv")
    spec = job_of(proposed(short), short).identification.fields["user_id"]
    assert spec == ColumnSpec(column="ID", transform=(Step("prefix", "cdnow-"),))
    assert ids_of({"user_id": LONG}) == {"user_id": ColumnSpec(column="user_id")}


def test_short_ids_in_objects_get_a_prefix_too(tmp_path: Path) -> None:
    lines = (f'{{"user_id": {{"$numberLong": "{number}"}}, "v": "x"}}\n' for number in range(20))
    (tmp_path / "people.json").write_text("".join(lines))
    source = open_source(["people.json"], folder=tmp_path)
    job = job_of(proposed(source), source)
    assert job.identification.fields["user_id"].path == ("$numberLong",)
    assert rejects_of(job, source) == proposed(source).rejects == {}


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("7.csv", "user-"), ("a.csv", "user-"), ("2024_Users.csv", "users-"), ("übung.csv", "übung-")],
)
def test_the_prefix_is_long_enough_by_itself(tmp_path: Path, name: str, prefix: str) -> None:
    source = csv_source(tmp_path, "ID,v\n3,x\n", name)
    assert job_of(proposed(source), source).identification.fields["user_id"].transform == (
        Step("prefix", prefix),
    )


def test_rows_without_a_usable_id_are_announced(tmp_path: Path) -> None:
    ids = [
        "person-1",
        "person-2",
        "",
        "  ",
        "NULL",
        "unknown",
        "00000000-0000-0000-0000-000000000000",
        "x" * 1025,
    ]
    source = csv_source(tmp_path, "user_id,v\n" + "".join(f"{id_},1\n" for id_ in [*ids, *LONG * 5]))
    proposal = proposed(source)
    assert proposal.rejects == {"missing_id": 3, "refused_id": 2, "long_id": 1}
    assert rejects_of(job_of(proposal, source), source) == proposal.rejects
    for text in (" ".join(proposal.text.replace("#", "").split()), "\n".join(proposal.notes)):
        assert "3 of 58 rows have no id" in text
        assert "2 of 58 rows have an id that stands for no user" in text
        assert "1 of 58 rows has an id of more than 1,024 characters" in text


def test_words_for_nobody_among_short_ids_are_pointed_out(tmp_path: Path) -> None:
    source = csv_source(
        tmp_path, "user_id,v\n" + "".join(f"{id_},1\n" for id_ in ["1", "2", "3", "anonymous", "anonymous"])
    )
    proposal = proposed(source)
    assert "2 rows have ids that may stand for no user (anonymous)" in " ".join(
        proposal.text.replace("#", "").split()
    )
    assert rejects_of(job_of(proposal, source), source) == proposal.rejects == {}


def test_repeated_ids_are_told() -> None:
    text = proposed(table_source({"user_id": LONG * 3, "v": [1] * 30})).text
    assert "30 rows have 10 different ids" in " ".join(text.replace("#", "").split())


def test_the_other_candidates_stand_ready_in_comments() -> None:
    text = proposed(table_source({"user_id": LONG, "email": MAILS})).text
    assert "\n  #   user_id: email\n" in text


def test_a_device_beside_a_user_is_only_a_comment_with_a_warning() -> None:
    columns = {"user_id": LONG, "device_id": [f"device-{n}" for n in range(10)]}
    assert ids_of(columns) == {"user_id": ColumnSpec(column="user_id")}
    text = proposed(table_source(columns)).text
    assert "\n  # device_id: device_id\n" in text
    assert "links the two for good" in text


def test_a_device_is_the_identity_where_there_is_no_user() -> None:
    columns = {"idfa": [f"device-{n}" for n in range(10)], "plan": list("aabbccddee")}
    assert ids_of(columns) == {"device_id": ColumnSpec(column="idfa")}


def test_a_guess_is_called_one() -> None:
    proposal = proposed(table_source({"score": [1.5, 2.5], "plan": ["a", "a"]}))
    assert any("guess" in note for note in proposal.notes)
    assert "guess" in proposal.text


def test_a_source_that_can_identify_nobody_is_refused() -> None:
    with pytest.raises(SourceError, match="no column") as caught:
        proposed(table_source({"tags": pa.array([["a"]])}))
    assert caught.value.hint


def test_an_id_in_some_files_only_is_no_id(tmp_path: Path) -> None:
    first = pa.table({"user_id": LONG, "email": MAILS})
    second = pa.table({"email": MAILS})
    from etl.reader import open_source

    source = open_source([first, second])
    assert job_of(proposed(source), source).identification.fields["user_id"].column == "email"


def test_mangled_ids_are_counted_and_shown(tmp_path: Path) -> None:
    rows = [*(f"person-{number}" for number in range(20)), "1.5E+14", "2.5E+14", "250000.0", "'0012345"]
    source = csv_source(tmp_path, "user_id,v\n" + "".join(f"{row},x\n" for row in rows))
    proposal = proposed(source)
    assert proposal.rejects == {"mangled_id": 4} == rejects_of(job_of(proposal, source), source)
    words = " ".join(proposal.text.replace("#", " ").split())
    assert "4 of 24 rows have an id that was mangled on its way" in words
    for part in (
        '2: "1.5E+14" is a number in scientific notation',
        '1: "250000.0" is',
        '1: "\'0012345" begins',
    ):
        assert part in words
    assert "ids: {mangled: keep}" in words


def test_mangled_ids_are_not_hidden_by_a_prefix(tmp_path: Path) -> None:
    source = csv_source(tmp_path, "ID,v\n" + "".join(f"{number},x\n" for number in [*range(30), "1.5"]))
    proposal = proposed(source)
    assert job_of(proposal, source).identification.fields["user_id"].transform
    assert proposal.rejects == {"mangled_id": 1} == rejects_of(job_of(proposal, source), source)


def test_columns_of_several_kinds_are_proposed_as_they_are(tmp_path: Path) -> None:
    lines = [
        '{"user_id":"person-1","v":1,"o":{"a":1}}',
        '{"user_id":"person-2","v":"x","o":{"b":[]}}',
        '{"user_id":77001}',
    ]
    (tmp_path / "x.ndjson").write_text("\n".join(lines))
    source = open_source([tmp_path / "x.ndjson"])
    proposal = proposed(source)
    job = job_of(proposal, source)
    assert proposal.rejects == {} == rejects_of(job, source)
    assert job.identification.fields["user_id"] == ColumnSpec(column="user_id")
    assert set(job.identification.operators["$set"]) == {"v", "o"}
