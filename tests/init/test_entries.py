from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from etl.job import ColumnSpec, Step
from etl.reader import open_source
from tests.init.proposing import column_source, csv_source, job_of, properties_of, proposed, table_source

USERS = [f"person-{number}" for number in range(6)]
CARDS = [
    "6759521864920116",
    "6767119071901597",
    "3576031598965625",
    "4111 1111 1111 1111",
    "4111111111111111",
    "",
]
HASH = (Step("trim"), Step("lower"), Step("sha256"))


def flat(text: str) -> str:
    return " ".join(text.replace("#", "").split())


@pytest.mark.parametrize("name", ["cc", "number_on_file"])
def test_card_numbers_are_never_sent(name: str) -> None:
    source = table_source({"user_id": USERS, name: CARDS})
    proposal = proposed(source)
    assert properties_of(source) == {}
    assert f"# {name}_sha256: {{column: {name}, transform: [trim, lower, sha256]}}" in proposal.text
    assert any("hashed or left out" in note and name in note for note in proposal.notes)


def test_card_numbers_that_are_numbers_are_found_too() -> None:
    numbers = [int(card) for card in CARDS[:3]] * 2
    assert properties_of(table_source({"user_id": USERS, "n": pa.array(numbers, pa.int64())})) == {}


@pytest.mark.parametrize("name", ["password", "api_key", "ssn", "pin"])
def test_secrets_are_never_sent(name: str) -> None:
    assert properties_of(table_source({"user_id": USERS, name: list("abcdef")})) == {}


def test_mail_addresses_are_hashed() -> None:
    source = table_source({"user_id": USERS, "contact": [f"p{n}@example.com" for n in range(6)]})
    assert properties_of(source) == {"contact_sha256": ColumnSpec(column="contact", transform=HASH)}
    assert "# contact: contact" in proposed(source).text


def test_a_hash_does_not_take_another_property_s_name() -> None:
    mails = [f"p{n}@example.com" for n in range(6)]
    source = table_source({"user_id": USERS, "email_sha256": list("abcdef"), "email": mails})
    assert set(properties_of(source)) == {"email_sha256", "email_sha256_"}


def test_empty_mail_addresses_are_not_hashed_to_one_value() -> None:
    mails = [*[f"p{n}@example.com" for n in range(5)], ""]
    assert properties_of(table_source({"user_id": USERS, "email": mails})) == {}
    assert "all get the same hash" in flat(proposed(table_source({"user_id": USERS, "email": mails})).text)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("first_name", list("abcdef")),
        ("phone", ["123456"] * 6),
        ("v", ["+49 170 1234567"] * 6),
        ("v", ["192.168.0.1"] * 6),
        ("birthday", ["2000-01-01"] * 6),
        ("street", list("abcdef")),
    ],
)
def test_other_personal_data_is_pointed_out(name: str, values: list[str]) -> None:
    source = table_source({"user_id": USERS, name: values})
    assert set(properties_of(source)) == {name}
    assert f"Personal data: {name}" in proposed(source).text
    assert any(name in note for note in proposed(source).notes)


def test_mail_as_a_name_for_something_else_is_no_mail() -> None:
    assert set(properties_of(table_source({"user_id": USERS, "email": [True, False] * 3}))) == {"email"}


def test_an_empty_column_is_left_out_with_the_reason(tmp_path: Path) -> None:
    source = column_source(tmp_path, ["", "", ""])
    assert properties_of(source) == {}
    assert "v is left out: it has no value in any row." in proposed(source).text


def test_a_constant_column_is_told(tmp_path: Path) -> None:
    assert "v has the same value in every row" in proposed(column_source(tmp_path, ["x", "x"])).text


def test_free_text_is_told(tmp_path: Path) -> None:
    values = [f"a long remark about the customer, number {n}, which goes on" for n in range(60)]
    assert "v is free text" in proposed(column_source(tmp_path, values)).text


def test_a_family_is_mapped_whole_or_not_at_all(tmp_path: Path) -> None:
    part = csv_source(tmp_path, "user_id,country,city\nperson-1,DE,Bonn\n")
    assert set(properties_of(part)) == {"country", "city"}
    assert "partial_families: reset" in proposed(part).text
    whole = csv_source(tmp_path, "user_id,Country,region,city,DMA,plan\nperson-1,DE,NW,Bonn,x,pro\n")
    fields = job_of(proposed(whole), whole).identification.fields
    assert {name: spec.column for name, spec in fields.items()} == {
        "user_id": "user_id",
        "country": "Country",
        "region": "region",
        "city": "city",
        "dma": "DMA",
    }
    assert set(properties_of(whole)) == {"plan"}


def test_an_empty_column_completes_a_family_but_fills_no_field_alone(tmp_path: Path) -> None:
    source = csv_source(tmp_path, "user_id,country,region,city,dma,language\nperson-1,DE,NW,Bonn,,\n")
    fields = job_of(proposed(source), source).identification.fields
    assert set(fields) == {"user_id", "country", "region", "city", "dma"}


def test_fields_of_no_family_are_mapped_by_themselves(tmp_path: Path) -> None:
    source = csv_source(tmp_path, "user_id,language,paying\nperson-1,de,yes\n")
    assert job_of(proposed(source), source).identification.fields["language"].column == "language"
    assert set(properties_of(source)) == {"paying"}


def test_columns_that_some_files_lack_are_left_out() -> None:
    tables = [pa.table({"user_id": USERS, "a": USERS}), pa.table({"user_id": USERS, "b": USERS})]
    source = open_source(tables)
    assert properties_of(source) == {}
    assert "a is left out: some files lack it" in flat(proposed(source).text)


def test_names_that_amplitude_reserves_are_changed() -> None:
    source = table_source(
        {
            "user_id": USERS,
            "$plan": list("abcdef"),
            "plan": list("abcdef"),
            "$": list("abcdef"),
            "<<": list("abcdef"),
        }
    )
    assert {name: spec.column for name, spec in properties_of(source).items()} == {
        "plan": "$plan",
        "plan_": "plan",
        "column $": "$",
        "column <<": "<<",
    }


def test_no_more_properties_are_proposed_than_amplitude_takes() -> None:
    columns = {f"c{number}": [1, 2] for number in range(1003)}
    source = table_source({"user_id": USERS[:2], **columns})
    proposal = proposed(source)
    assert len(job_of(proposal, source).identification.operators["$set"]) == 1000
    assert "left out" in proposal.text
