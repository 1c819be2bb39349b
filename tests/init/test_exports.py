from __future__ import annotations

import json
import os
import random
from datetime import datetime
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.init import propose_job
from etl.init.csv_guess import guess_csv
from etl.init.recognisers import DATE_FORMATS
from etl.job.spec import Job
from etl.pipeline.plan import plan_job
from etl.pipeline.preview import preview_rows
from etl.pipeline.settings import Settings
from etl.reader import open_source
from tests.examples import examples
from tests.init.exports import EXPORTS, Export, export_bytes, row_values
from tests.init.proposals import csv_source, proposed, spec_of


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def proposed_job(content: bytes, name: str = "export.csv") -> Job:
    Path(name).write_bytes(content)
    Path("job.yml").write_text(propose_job([name], Path("job.yml")).text, encoding="utf-8")
    return Job.load(Path("job.yml"), environ={})


def sent(job: Job, count: int = 1000) -> list[dict[str, object]]:
    return [json.loads(line) for line in preview_rows(job, open_source(job.source, csv=job.csv), count=count)]


def amount_of(text: str, export: Export) -> float | None:
    decimal, thousands, around = export.amount
    if text == export.null:
        return None
    before, after = around.split("{}")
    return float(text.removeprefix(before).removesuffix(after).replace(thousands, "").replace(decimal, "."))


@pytest.mark.parametrize("language", EXPORTS)
def test_an_export_arrives_with_the_right_values_without_an_edit(language: str) -> None:
    export = EXPORTS[language]
    job = proposed_job(export_bytes(export))
    plan = plan_job(job, open_source(job.source, csv=job.csv), settings=Settings())
    assert (plan.tally.rows, plan.tally.rejected, plan.skipped_values) == (200, 0, {})
    chance = random.Random(7)
    ids, _, _, _, postcode, amount, day, answer, tags = export.names
    assert job.identification.fields["user_id"].column == ids
    for number, found in enumerate(sent(job), start=1):
        row = row_values(export, number, chance)
        properties = found["user_properties"]
        assert isinstance(properties, dict)
        values = properties.get("$set", properties)
        assert found["user_id"] == row[0]
        assert values.get(postcode) == row[4]
        assert values.get(amount) == amount_of(row[5], export)
        assert values.get(day) == datetime.strptime(row[6], export.dates).date().isoformat()
        assert values.get(answer) == {"": None, export.words[0]: True, export.words[1]: False}[row[7]]
        assert values.get(tags) == (
            [part.strip() for part in row[8].replace(";", ",").split(",")] if row[8] else None
        )
        # Names, mail addresses and phone numbers leave as hashes only.
        assert not {*row[1:4]} & {value for value in values.values() if isinstance(value, str)}
        assert sum(str(name).endswith("_sha256") for name in values) == 3


CELLS = st.sampled_from(["%d.%m.%Y", "%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y %H:%M", "%Y年%m月%d日", "%d-%b-%Y"])


@settings(max_examples=examples(25, 7), deadline=None)
@given(CELLS, st.integers(0, 15), st.randoms(use_true_random=False))
def test_dates_with_some_dirt_are_dates_in_any_order_and_in_pieces(
    tmp_path_factory: pytest.TempPathFactory, format_: str, percent: int, chance: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("dates")
    days = [datetime(2020, month, day, 10, 30) for month in range(1, 13) for day in range(5, 28)]
    cells = [day.strftime(format_) for day in days]
    for place in chance.sample(range(len(cells)), len(cells) * percent // 100):
        cells[place] = chance.choice(["soon", "x1", "31.31.2020"])
    rows = [f'user-{number},"{cell}"\n' for number, cell in enumerate(cells, start=100)]
    spec = spec_of(csv_source(folder, "user_id,v\n" + "".join(rows)))
    step = spec.transform[0] if spec.transform else None
    # ISO dates need no format.
    assert spec.type in {"date", "datetime"}
    assert (step.formats if step else ("%Y-%m-%d",)) == (format_,)
    assert (spec.invalid == "skip") is (percent > 0)
    chance.shuffle(rows)
    shuffled = csv_source(folder, "user_id,v\n" + "".join(rows), "shuffled.csv")
    assert spec_of(shuffled) == spec
    half = len(rows) // 2
    for name, part in (("a.csv", rows[:half]), ("b.csv", rows[half:])):
        (folder / name).write_text("user_id,v\n" + "".join(part), encoding="utf-8")
    assert spec_of(open_source(["a.csv", "b.csv"], folder=folder, batch_rows=7)) == spec
    assert format_ in DATE_FORMATS


@pytest.mark.parametrize(
    ("header", "row", "delimiter"),
    [
        ("customer_id\x01plan", "user-{}\x01pro", "\x01"),
        ("customer_id~plan~since", "user-{}~pro~2024-01-01", "~"),
        ("customer_id§plan", "user-{}§a, b", "§"),
        ("customer_id^plan", "user-{}^pro", "^"),
    ],
)
def test_any_delimiter_is_found(header: str, row: str, delimiter: str) -> None:
    job = proposed_job("\n".join([header, *(row.format(number) for number in range(9))]).encode())
    assert (job.csv.delimiter, job.identification.fields["user_id"].column) == (delimiter, "customer_id")
    assert len(sent(job)) == 9


@pytest.mark.parametrize(
    "encoding", ["utf-16-le", "utf-16-be", "utf-16", "cp932", "euc_jp", "cp1251", "gb18030"]
)
def test_encodings_are_found(encoding: str) -> None:
    text = {"cp1251": "Привет мир", "gb18030": "北京市海淀区"}.get(encoding, "こんにちは東京")
    lines = ["user_id,note", *(f"user-{number},{text}{number}" for number in range(9))]
    job = proposed_job("\r\n".join(lines).encode(encoding))
    properties = sent(job)[0]["user_properties"]
    assert text in json.dumps(properties, ensure_ascii=False)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_needs_no_encoding(tmp_path: Path, encoding: str) -> None:
    rows = "".join(f"user-{number},café\n" for number in range(9))
    marked, plain = tmp_path / "marked.csv", tmp_path / "plain.csv"
    marked.write_bytes(f"user_id,drink\n{rows}".encode(encoding))
    plain.write_text("user_id,drink\nuser-10,thé\n", encoding="utf-8")
    for paths in ([marked], [marked, plain]):
        assert guess_csv([str(path) for path in paths])[0].encoding == "utf-8"
    plain.write_text("user_id,drink\nuser-10,thé\n", encoding="cp1252")
    assert guess_csv([str(marked), str(plain)])[0].encoding == "cp1252"


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    export = b"user_id,plan\nuser-1,pro\nuser-2,free\n"
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=[export], daemon=True)
    writer.start()
    assert "user_id: user_id" in propose_job([str(tmp_path / "pipe")], None).text
    writer.join(10)


@pytest.mark.parametrize("above", ["Users\n", "Users, exported\n\n", "a\n\nb\n\n", "\n\nTitle;;\n"])
def test_lines_above_the_header_are_skipped(above: str) -> None:
    job = proposed_job(f"{above}id,plan,since\nuser-1,pro,2024-01-01\nuser-2,pro,2024-01-02\n".encode())
    assert job.identification.fields["user_id"].column == "id"
    assert [one["user_id"] for one in sent(job)] == ["user-1", "user-2"]


def test_a_header_that_is_data_is_a_row() -> None:
    job = proposed_job(b"user-1,ada@example.com,pro\nuser-2,alan@example.com,free\n")
    assert job.csv.header == ("column_1", "column_2", "column_3")
    assert len(sent(job)) == 2


def test_a_few_short_ids_are_dirt_and_told() -> None:
    source = csv_source(Path(), "user_id,v\n" + "".join(f"user-{n},x\n" for n in range(99)) + "7,x\n")
    assert "user_id: user_id" in proposed(source).text
    assert any(
        "1 of 100 rows has an id of fewer than 5 characters" in note for note in proposed(source).notes
    )


def test_values_in_objects_of_their_own_are_found_by_their_path() -> None:
    line = (
        '{{"_id":{{"$oid":"65a0c0ffee00000000{:06}"}},"at":{{"$date":"2024-01-15T10:00:00Z"}},'
        '"n":{{"$numberLong":"{}"}}}}\n'
    )
    job = proposed_job("".join(line.format(n, n) for n in range(5)).encode(), "export.ndjson")
    found = sent(job)[3]
    assert found["user_id"] == "65a0c0ffee00000000000003"
    assert found["user_properties"] == {"$set": {"at": "2024-01-15T10:00:00", "n": 3}}


def test_single_quotes_around_values_are_found() -> None:
    job = proposed_job(b"'user_id','plan'\n'user-1001','pro, yearly'\n'user-1002','it''s free'\n")
    assert job.csv.quote == "'"
    assert [line["user_properties"] for line in sent(job)] == [
        {"$set": {"plan": "pro, yearly"}},
        {"$set": {"plan": "it's free"}},
    ]
    job = proposed_job(b"user_id,plan\n'00123456,pro\n'00123457,'t is free\n")
    assert job.csv.quote == '"'
