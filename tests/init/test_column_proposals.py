from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from etl.amplitude.requests import MAX_PROPERTIES
from etl.init import column_proposals, facts
from etl.init.column_proposals import spec_text
from etl.init.names import texts_of
from etl.init.recognisers import (
    DATE_FORMATS,
    STYLES,
    WRITTEN_NUMBERS,
    fits_by_name,
    fitting,
    style_spec,
)
from etl.job.column_spec import ColumnSpec, Step, without_effect
from etl.job.problems import clipped
from etl.job.scalars import in_quotes, quoted
from etl.job.spec import parse_job
from etl.mapper.numbers import SPACES
from etl.reader import open_source
from tests.examples import each_row
from tests.init.proposals import (
    column_source,
    csv_source,
    job_of,
    properties_of,
    proposed,
    rejects_of,
    spec_of,
    table_source,
)

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
        ("Vorname", list("abcdef")),
        ("nom_de_famille", list("abcdef")),
        ("Apellidos", list("abcdef")),
        ("電話番号", ["123456"] * 6),
        ("Data de nascimento", ["2000-01-01"] * 6),
        ("first_name", list("abcdef")),
        ("phone", ["123456"] * 6),
        ("v", ["+49 170 1234567"] * 6),
        ("v", ["192.168.0.1"] * 6),
        ("birthday", ["2000-01-01"] * 6),
        ("street", list("abcdef")),
    ],
)
def test_all_personal_data_is_hashed_as_mail_addresses_are(name: str, values: list[str]) -> None:
    source = table_source({"user_id": USERS, name: values})
    assert properties_of(source) == {f"{name}_sha256": ColumnSpec(column=name, transform=HASH)}
    assert f"Personal data: {name}" in proposed(source).text
    assert any(name in note for note in proposed(source).notes)
    assert any(
        line.lstrip().startswith("# ") and f"{name}" in line for line in proposed(source).text.splitlines()
    )


def test_data_about_people_and_fields_may_stand_in_objects(tmp_path: Path) -> None:
    row = '{"user_id": "user-%d", "phone": {"$n": "+49 170 123456%d"}, "language": {"$t": "de"}}\n'
    (tmp_path / "users.ndjson").write_text("".join(row % (number, number) for number in (1, 2)))
    source = open_source(["users.ndjson"], folder=tmp_path)
    job = job_of(proposed(source), source)
    assert job.identification.fields["language"] == ColumnSpec(column="language", path=("$t",))
    hashed = ColumnSpec(column="phone", path=("$n",), transform=HASH)
    assert job.identification.operators["$set"] == {"phone_sha256": hashed}
    assert rejects_of(job, source) == {}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("phone_verified", ["ja", "nein"] * 3),
        ("email_opt_in", ["true", "false"] * 3),
        ("email_count", ["3", "4", "5"] * 2),
        ("name_changed_at", ["2024-01-01"] * 6),
    ],
)
def test_what_is_known_about_personal_data_is_none(tmp_path: Path, name: str, values: list[str]) -> None:
    assert set(properties_of(column_source(tmp_path, values, name))) == {name}


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


def test_no_more_properties_are_proposed_than_amplitude_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PROPERTIES == 1000
    monkeypatch.setattr(column_proposals, "MAX_PROPERTIES", 30)
    source = table_source({"user_id": USERS} | {f"c{number}": USERS for number in range(33)})
    assert len(properties_of(source)) == 30
    assert "left out" in proposed(source).text


def dated(format_: str, kind: str = "date") -> dict[str, object]:
    return {"type": kind, "transform": (Step("date_format", formats=(format_,)),)}


@each_row(
    ("values", "expected"),
    [
        (["1", "-2", "30", ""], {"type": "integer"}),
        (["0", "1", "1"], {"type": "integer"}),
        (["1", "2.5", ".5", "1e3"], {"type": "number"}),
        (["true", "False"], {"type": "boolean"}),
        (["y", "n", ""], {"type": "boolean"}),
        (["2024-02-29", "1999-01-01"], {"type": "date"}),
        (["2024-02-29T10:00:00Z", "1999-01-01 00:00"], {"type": "datetime"}),
        (["2024-02-29", "2024-02-29T10:00:00+02:00"], {"type": "datetime"}),
        (["3/8/1971", "1/16/1968"], dated("%m/%d/%Y")),
        (["3/8/1971", "16/1/1968"], dated("%d/%m/%Y")),
        (["31.12.1999", "1.2.2000"], dated("%d.%m.%Y")),
        (["2001/12/31"], dated("%Y/%m/%d")),
        (["7-Jan-2020", "31-May-2021"], dated("%d-%b-%Y")),
        (["1 May 2020", "2 May 2021"], dated("%d %b %Y")),
        (["March 1, 2020"], dated("%B %d, %Y")),
        (["20240131", "19991231"], dated("%Y%m%d")),
        (["31/12/1999 23:59"], dated("%d/%m/%Y %H:%M", "datetime")),
        (["12/31/1999 11:59 PM"], dated("%m/%d/%Y %I:%M %p", "datetime")),
        (["25/12/98"], dated("%d/%m/%y")),
        (["a;b", "c; d e;f", "g"], {"type": "list", "separator": ";"}),
        (["a|b", "c|d"], {"type": "list", "separator": "|"}),
        (['{""a"": 1}', "{}", ""], {"type": "json"}),
        (["12,5", "1,25", "3"], {"type": "number", "decimal": ","}),
        (["1,234.5", "12"], {"type": "number", "thousands": ","}),
        (
            ["2.015,10 €", "59,45 €", "€ 7"],
            {"type": "number", "decimal": ",", "thousands": ".", "strip": "€ "},
        ),
        (["R$ 1.234,56", "R$ 7,00"], {"type": "number", "decimal": ",", "thousands": ".", "strip": "R$ "}),
        (["1\u202f234,50", "12,5"], {"type": "number", "decimal": ",", "thousands": " "}),
        (["1'234.50", "12.5"], {"type": "number", "thousands": "'"}),
        ([" 1", "2"], {"type": "number", "strip": " "}),
        (["12 %", "7%", "0 %"], {"type": "number", "strip": "% "}),
        (["¥1,200", "¥980", "¥12,000,000"], {"type": "number", "thousands": ",", "strip": "¥"}),
        (["Ja", "ja", "nein"], {"values": (("Ja", "true"), ("ja", "true"), ("nein", "false"))}),
        (["oui", "non"], {"values": (("non", "false"), ("oui", "true"))}),
        (["Sí", "No"], {"values": (("No", "false"), ("Sí", "true"))}),
        (["はい", "いいえ"], {"values": (("いいえ", "false"), ("はい", "true"))}),
        (["on", "off"], {"type": "boolean"}),
        (["2024年1月31日", "2023年12月1日"], dated("%Y年%m月%d日")),
        (["31.1.2024, 10:00", "1.2.2024, 9:30"], dated("%d.%m.%Y, %H:%M", "datetime")),
        (["vip, beta", "beta, new", "new", "vip"], {"type": "list"}),
        (['[""a"", ""b""]', "[]"], {"type": "list"}),
        (['{vip,""two words""}', "{}", "{a}"], {"type": "list"}),
    ],
)
def test_a_type_is_proposed_that_every_value_has(
    tmp_path: Path, values: list[str], expected: dict[str, object]
) -> None:
    assert spec_of(column_source(tmp_path, values)) == ColumnSpec(column="v", **expected)  # type: ignore[arg-type]


@each_row(
    "values",
    [
        ["00123", "45678"],
        ["12345678901234567"],
        ["1", "two"],
        ["y", "y"],
        ["f", "f"],
        ["30/2/2020"],
        ["3/8/1971", "8/3/1971"],
        ["01/02/03"],
        ["1,234", "5,678"],
        ["2024-02-30"],
        ["12345678", "20240101"],
        ["{not: json}"],
        ["[[1]]"],
        ["1.234", "5.678"],
        ["Smith, Ada", "Smith, Alan", "Berg, Ada"],
        ["f", "m"],
        ["nan", "inf"],
        ["0x10", "7"],
        ["I came; I saw, and then what I did was go home", "so"],
    ],
)
def test_what_is_doubtful_stays_text(tmp_path: Path, values: list[str]) -> None:
    spec = spec_of(column_source(tmp_path, values))
    assert (spec.transform, spec.type) in {((), None), ((), "integer")}
    assert spec.type is None or values == ["12345678", "20240101"]


def test_a_doubt_between_two_formats_is_told_with_both(tmp_path: Path) -> None:
    text = proposed(column_source(tmp_path, ["3/8/1971", "8/3/1971"])).text
    assert '{date_format: "%m/%d/%Y"}' in text
    assert '{date_format: "%d/%m/%Y"}' in text


def test_a_few_values_that_do_not_fit_are_skipped_and_told(tmp_path: Path) -> None:
    source = column_source(tmp_path, [*["5"] * 250, "five", *["7"] * 150, "seven", "seven"])
    assert spec_of(source) == ColumnSpec(column="v", type="integer", invalid="skip")
    assert 'v: 3 values do not fit, e.g. "seven": skipped.' in flat(proposed(source).text)
    assert any('3 values do not fit, e.g. "seven"' in note for note in proposed(source).notes)


def test_why_a_column_of_numbers_stays_text_is_told_with_an_example(tmp_path: Path) -> None:
    source = column_source(tmp_path, ["49.00", "unlimited", "12.50"])
    assert spec_of(source) == ColumnSpec(column="v")
    why = 'v stays text: 1 of 3 values is not a number, e.g. "unlimited"'
    assert f"{why}. v: {{column: v, type: number, invalid: skip}}" in flat(proposed(source).text)
    assert why in proposed(source).notes
    for values in (["1", "two"], ["007", "12", "13", "x"], ["Smith", "Berg"]):
        assert "stays text" not in proposed(column_source(tmp_path, values)).text


def test_a_value_that_the_type_reads_is_no_misfit(tmp_path: Path) -> None:
    source = column_source(tmp_path, [*["5"] * 250, "007"])
    assert spec_of(source) == ColumnSpec(column="v", type="integer")
    assert "fit" not in proposed(source).text


def test_several_formats_of_dates_are_told_with_their_numbers(tmp_path: Path) -> None:
    days = [f"{day:02}.03.2021" for day in range(1, 29)]
    source = column_source(tmp_path, [*days, *days, "2024-02-01", "2024-02-02", "unknown"])
    step = Step("date_format", formats=("%d.%m.%Y", "%Y-%m-%d"))
    assert spec_of(source) == ColumnSpec(column="v", transform=(step,), type="date", invalid="skip")
    assert "v: 56 of 59 are dates as %d.%m.%Y; 2 as %Y-%m-%d: both taken;" in flat(proposed(source).text)


def test_a_type_that_fits_too_few_is_not_proposed(tmp_path: Path) -> None:
    assert spec_of(column_source(tmp_path, [*["5"] * 8, "five", "six"])) == ColumnSpec(column="v")


@pytest.mark.parametrize("word", ["NULL", r"\N", "NaN", "k.A.", "n/a", "-", "None", "sin datos", "不明"])
def test_words_for_null_are_found_and_written(tmp_path: Path, word: str) -> None:
    source = column_source(tmp_path, ["5", word, "7"])
    assert spec_of(source) == ColumnSpec(column="v", type="integer", nulls=(word,))
    assert "1 of 3 rows empty" in proposed(source).text


def test_a_code_of_two_letters_is_no_word_for_null(tmp_path: Path) -> None:
    assert spec_of(column_source(tmp_path, ["DE", "NA", "FR"])) == ColumnSpec(column="v")
    assert spec_of(column_source(tmp_path, ["1.5", "NA", "2.5"])).nulls == ("NA",)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)])
def test_numbers_since_1970_are_found_where_the_name_is_of_a_time(
    tmp_path: Path, unit: str, factor: int
) -> None:
    values = [str((1_700_000_000 + 86_400 * n) * factor) for n in range(9)]
    wanted = ColumnSpec(column="created_at", type="datetime", unit=unit)  # type: ignore[arg-type]
    assert spec_of(column_source(tmp_path, values, "created_at"), "created_at") == wanted
    assert spec_of(column_source(tmp_path, values, "visits"), "visits").unit is None
    typed = table_source({"user_id": USERS, "created_at": [int(value) for value in values[:6]]})
    assert spec_of(typed, "created_at") == wanted


def test_times_without_a_zone_are_told(tmp_path: Path) -> None:
    for values, told in ((["2024-01-01 10:00"], True), (["2024-01-01T10:00Z"], False)):
        notes = proposed(column_source(tmp_path, values)).notes
        assert any("`timezone`: v" in note for note in notes) is told


@pytest.mark.parametrize("name", ["zip", "app_version_code", "sku"])
def test_codes_are_not_counted_with(tmp_path: Path, name: str) -> None:
    assert spec_of(column_source(tmp_path, ["10115", "80331"], name), name).type is None


def test_leading_zeros_are_told(tmp_path: Path) -> None:
    assert "leading zeros" in proposed(column_source(tmp_path, ["00123", "45678"])).text


def test_types_of_a_file_that_has_types_are_kept() -> None:
    source = table_source(
        {"user_id": ["user-1", "user-2"], "v": [1.5, 2.5], "s": ["1", "2"], "t": ["true", "false"]}
    )
    assert {spec_of(source, name).type for name in "vst"} == {None}
    assert "double" in proposed(source).text


def test_dates_in_text_of_a_file_that_has_types_are_read_too() -> None:
    source = table_source({"user_id": ["user-1", "user-2"], "v": ["16/1/1968", ""]})
    assert spec_of(source) == ColumnSpec(column="v", **dated("%d/%m/%Y"))  # type: ignore[arg-type]


def test_long_text_is_cut_rather_than_rejected(tmp_path: Path) -> None:
    source = column_source(tmp_path, ["x" * 1025, "short"])
    assert spec_of(source) == ColumnSpec(column="v", too_long="truncate")
    assert "1 value of more than 1,024 characters" in proposed(source).text


def test_a_column_whose_values_cannot_be_sent_is_left_out_with_the_reason() -> None:
    source = table_source(
        {"user_id": ["user-1", "user-2"], "v": [1.0, float("inf")], "w": pa.array([[[1]], None])}
    )
    text = proposed(source).text
    assert "1 not_finite; the first is row 2" in text
    assert "1 nested_list; the first is row 1" in text
    assert proposed(source).rejects == {}


@each_row("format_", DATE_FORMATS)
def test_what_a_format_writes_it_reads(format_: str) -> None:
    times = [datetime(year, month, 28, 23, 59, 58) for year in (1999, 2024) for month in range(1, 13)]
    times += [datetime(2019, month, 8, 23, 59, 58) for month in range(1, 13)]
    texts = [time.strftime(format_) for time in times]
    texts += [re.sub(r"\b0(?=\d\b)", "", text) for text in texts]  # as people write days and months
    assert fits_by_name(pa.array(texts))[format_].all()


@given(st.data(), st.sampled_from([*STYLES]))
def test_what_is_written_as_a_style_of_numbers_is_read(data: st.DataObject, style: str) -> None:
    gate = re.compile(WRITTEN_NUMBERS[style].gate.replace(r"\x{2019}", "\u2019"), re.ASCII)
    text = data.draw(st.from_regex(gate, fullmatch=True))
    around = "".join(sorted({*"".join(texts_of("currencies")), *SPACES}))
    assert fitting(pa.array([text]), style_spec(style, around)).all()


def test_misfits_after_the_first_values_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "MOST_KEPT", 2_000)
    rows = "".join(f"user-{number},{number}\n" for number in range(3_000))
    (tmp_path / "users.csv").write_text(f"user_id,v\n{rows}user-x,x\nuser-y,NULL\n")
    source = open_source(["users.csv"], folder=tmp_path, batch_rows=1000)
    assert spec_of(source) == ColumnSpec(column="v", type="integer", invalid="skip", nulls=("NULL",))
    assert 'v: 1 value does not fit, e.g. "x": skipped.' in flat(proposed(source).text)


# --- as YAML ---------------------------------------------------------------------------------------------


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(texts)
def test_any_text_reads_back_as_itself_by_any_yaml_reader(text: str) -> None:
    for written in (quoted(text), in_quotes(text)):
        assert yaml.safe_load(f"k: {written}") == {"k": text}
        assert yaml.safe_load(f"{written}: v") == {text: "v"}
        assert "\n" not in written


@each_row("word", ["yes", "No", "null", "~", "12", "1e3", "", "a: b", "#x", "- a", "*a", ".inf", "a\x85b"])
def test_what_yaml_would_misread_is_quoted(word: str) -> None:
    assert quoted(word).startswith('"')


@pytest.mark.parametrize("word", ["plan", "exports/users.csv", "../users.csv", "/data/users-1.parquet"])
def test_plain_words_stay_bare(word: str) -> None:
    assert quoted(word) == word


@given(st.text())
def test_a_comment_never_leaves_its_line(text: str) -> None:
    assert clipped(text).isprintable()
    assert len(clipped(text)) <= 60


steps = st.one_of(
    st.sampled_from(["trim", "lower", "upper", "sha256"]).map(lambda word: Step(word)),  # type: ignore[arg-type]
    texts.map(lambda text: Step("prefix", text)),
    st.just(Step("date_format", formats=("%d/%m/%Y",))),
    st.just(Step("date_format", formats=("%d/%m/%Y", "%Y-%m-%d"))),
)
words = texts.filter(lambda text: text == text.strip())
specs = st.builds(
    ColumnSpec,
    column=texts,
    transform=st.lists(steps, max_size=3).map(tuple),
    type=st.sampled_from([None, "integer", "date", "json"]),
    too_long=st.sampled_from(["reject", "truncate"]),
    invalid=st.sampled_from(["reject", "skip"]),
    nulls=st.lists(words, max_size=2, unique=True).map(lambda some: tuple(sorted(some))),
)
specs |= st.builds(
    ColumnSpec, column=texts, type=st.just("list"), separator=st.sampled_from([";", "|", '"', "\t"])
)
specs |= st.builds(
    ColumnSpec,
    column=texts,
    type=st.just("number"),
    decimal=st.just(","),
    thousands=st.sampled_from(["", ".", " ", "'"]),
    strip=st.sampled_from(["", "€ ", "R$ "]),
)
specs |= st.builds(ColumnSpec, column=texts, type=st.just("datetime"), unit=st.sampled_from(["s", "ms"]))
specs |= st.builds(
    ColumnSpec,
    column=texts,
    values=st.dictionaries(words, st.sampled_from(["true", "false"]), min_size=1).map(
        lambda some: tuple(sorted(some.items()))
    ),
)


@given(specs.filter(lambda spec: not any(without_effect(spec))))
def test_a_written_spec_is_read_as_the_same_spec(spec: ColumnSpec) -> None:
    text = f"identification:\n  user_id: u\n  user_properties:\n    p: {spec_text(spec)}\n"
    job = parse_job(text, name="j.yml", folder=Path())
    assert job.identification.operators["$set"]["p"] == spec


def test_a_property_has_no_spaces_around_its_name(tmp_path: Path) -> None:
    source = csv_source(tmp_path, "user_id, plan, $size \nuser-1001,a,b\nuser-1002,b,c\n")
    assert properties_of(source) == {
        "plan": ColumnSpec(column=" plan"),
        "size": ColumnSpec(column=" $size "),
    }


def test_a_column_without_a_name_is_left_out(tmp_path: Path) -> None:
    source = csv_source(tmp_path, ",user_id,plan\n0,user-1001,a\n1,user-1002,b\n")
    assert [*properties_of(source)] == ["plan"]
    assert "no name (column 1) is left out" in flat(proposed(source).text)


@pytest.mark.parametrize("word", ["0000-00-00", "0000-00-00 00:00:00"])
def test_a_date_of_zeros_is_a_null(tmp_path: Path, word: str) -> None:
    source = column_source(tmp_path, ["2024-01-05", word, "2024-02-06", word])
    assert spec_of(source).type == "date"
    assert spec_of(source).nulls == (word,)


def test_texts_of_a_fixed_width_are_trimmed(tmp_path: Path) -> None:
    source = column_source(tmp_path, ["pro   ", "free  ", "enterp", "pro   "])
    assert spec_of(source) == ColumnSpec(column="v", transform=(Step("trim"),))
    source = column_source(tmp_path, ["pro", "free ", "enterprise", "pro"])
    assert spec_of(source) == ColumnSpec(column="v")
