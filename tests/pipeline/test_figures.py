"""The figures of a plan against a count in plain Python."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.arrow.json_text import json_texts, mark_json_text
from etl.checkpoint import reject_lines
from etl.errors import SKIP_REMEDIES
from etl.job.spec import parse_job
from etl.listeners.plan_text import options_text
from etl.model import Reject
from etl.pipeline.figures import ENTRY, ValueCounts, countable, json_of, options_of
from etl.pipeline.plan import Plan, plan_job
from etl.pipeline.settings import RejectLimit, Settings
from etl.reader import open_source
from tests.examples import examples

JOB = """\
source: users.csv
identification:
  user_id: id
  user_properties:
    plan: plan
    fee: {column: fee, type: number}
    age: {column: age, type: integer, invalid: skip}
    tags: {column: tags, type: list, separator: "|"}
"""
IDS = st.sampled_from(["user-1", "user-2", "user-3", "7", ""])
ROWS = st.lists(
    st.tuples(
        IDS,
        st.sampled_from(["", "pro", "team", "Größe"]),
        st.sampled_from(["", "1", "2.5", "n/a", "-"]),
        st.sampled_from(["", "30", "31", "old", "young"]),
        st.sampled_from(["", "a", "a|b", "b|a"]),
    ),
    max_size=40,
)


def planned(folder: Path, rows: Sequence[tuple[str, ...]], *, proof: bool = True, **options: Any) -> Plan:
    with (folder / "users.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "plan", "fee", "age", "tags"), *rows])
    job = parse_job(JOB, name="job.yml", folder=folder)
    source = open_source([str(folder / "users.csv")])
    return plan_job(job, source, settings=Settings(**options), proof=proof)


@settings(max_examples=examples(40), deadline=None)
@given(ROWS)
def test_figures_are_those_of_a_plain_count(rows: list[tuple[str, ...]]) -> None:
    faults: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    skipped: Counter[str] = Counter()
    values: dict[str, list[str]] = defaultdict(list)
    good = 0
    for user, plan, fee, age, tags in rows:
        wrong = [("id", "missing_id" if user == "" else "short_id", user)] * (len(user) < 5)
        wrong += [("fee", "bad_number", fee)] * (fee in {"n/a", "-"})
        for column, code, value in wrong:
            faults[column, code][value] += 1
        if wrong:
            continue
        good += 1
        skipped.update([age] * (age in {"old", "young"}))
        values["$set.plan"] += [json.dumps(plan, ensure_ascii=False)] * (plan != "")
        values["$set.fee"] += [fee] * (fee != "")
        values["$set.age"] += [age] * age.isdigit()
        values["$set.tags"] += [json.dumps(tags.split("|")).replace(" ", "")] * (tags != "")
    with TemporaryDirectory() as folder:
        whole, sized = (planned(Path(folder), rows, proof=proof) for proof in (True, False))
    found = whole.figures
    assert sized.as_dict() == whole.as_dict()
    assert found.rows == good
    for figures in found.properties.values():
        expected = Counter(values[figures.name])
        assert figures.filled == figures.values.counted == expected.total()
        assert (figures.values.distinct, figures.values.full) == (len(expected), False)
        assert dict(figures.values.top(9)) == expected
        assert figures.example == next(iter(values[figures.name]), None)
    assert {key: one.count for key, one in found.rejected.items()} == {
        k: n.total() for k, n in faults.items()
    }
    for (_, code), one in found.rejected.items():
        plain = Counter({f'"{value}"': n for value, n in faults["fee", code].items()})
        if code == "bad_number":
            assert dict(one.values.top(9)) == plain
    told = {value: n for one in found.skipped.values() for value, n in one.values.top(9)}
    assert told == {f'"{value}"': n for value, n in skipped.items()}


def test_elements_of_several_types_are_shown_as_they_are_sent(tmp_path: Path) -> None:
    rows = [("user-1", "", "", "", '["a", 1]'), ("user-2", "", "", "", '[1, "a"]')]
    tags = planned(tmp_path, rows).figures.properties["user_properties", "$set", "tags"]
    assert dict(tags.values.top(9)) == {'["a",1]': 1, '[1,"a"]': 1}


def test_every_fault_of_a_row_is_in_its_reject_and_in_the_file(tmp_path: Path) -> None:
    kept: list[Reject] = []
    with (tmp_path / "users.csv").open("w") as file:
        file.write("id,plan,fee,age,tags\n7,pro,n/a,old,\n,pro,-,,\nuser-1,pro,x,,\n")
    job = parse_job(JOB, name="job.yml", folder=tmp_path)
    source = open_source([str(tmp_path / "users.csv")])
    plan = plan_job(job, source, settings=Settings(), on_rejects=kept.extend)
    assert [[fault.code for fault in reject.faults] for reject in kept] == [
        ["short_id", "bad_number"],
        ["missing_id", "bad_number"],
        ["bad_number"],
    ]
    assert all((r.code, r.reason) == (r.faults[0].code, r.faults[0].reason) for r in kept)
    assert dict(plan.rejects_by_code) == {"short_id": 1, "missing_id": 1, "bad_number": 1}
    written = [json.loads(line) for line in reject_lines(kept, run=1)]
    assert written[0]["faults"][1] == {
        "column": "fee",
        "code": "bad_number",
        "reason": 'column fee: "n/a" is not a number',
    }
    assert "faults" not in written[2]


def test_too_many_values_are_told_as_at_least_so_many(tmp_path: Path) -> None:
    rows = [(f"user-{i:05}", f"plan {i}" if i % 2 else "pro", "1", "", "") for i in range(8000)]
    plan, fee = (
        next(one for one in planned(tmp_path, rows).figures.properties.values() if one.name == name)
        for name in ("$set.plan", "$set.fee")
    )
    assert plan.filled == 8000
    assert plan.values.full
    assert 1000 < plan.values.distinct <= 4001
    assert plan.values.top(1)[0][0] == '"pro"'
    assert (fee.values.full, fee.values.top(5)) == (False, [("1", 8000)])


@settings(max_examples=examples(60))
@given(st.lists(st.text("abc", max_size=3)), st.integers(0, 6 * ENTRY))
def test_counts_are_exact_until_they_are_full(texts: list[str], budget: int) -> None:
    counts = ValueCounts(budget)
    counts.add((text, 1) for text in texts)
    expected = Counter(texts)
    if not counts.full:
        assert (counts.distinct, dict(counts.top(99))) == (len(expected), expected)
    assert counts.distinct <= len(expected)
    assert all(expected[text] == n for text, n in counts.top(99))


def test_more_rejects_than_allowed_are_refused_as_a_run_would(tmp_path: Path) -> None:
    rows = [("user-1", "pro", "n/a", "", ""), ("user-2", "pro", "1", "", "")]
    assert planned(tmp_path, rows, max_rejects=RejectLimit(count=1)).refused is None
    refused = planned(tmp_path, rows, max_rejects=RejectLimit(count=0)).refused
    assert refused is not None
    assert int(refused.exit_code) == 4


def test_samples_show_nulls_beside_a_column_that_is_not_used_and_hard_to_write(tmp_path: Path) -> None:
    by_day = pa.array([[(0, "x")], None], pa.map_(pa.date32(), pa.string()))
    table = pa.table({"id": ["user-1", "user-2"], "plan": [None, "pro"], "by_day": by_day})
    job = parse_job(
        "identification: {user_id: id, user_properties: {plan: plan, name: {value: x}}}",
        name="job.yml",
        folder=tmp_path,
    )
    samples = plan_job(job, open_source([table]), settings=Settings()).figures.samples
    assert samples["user-1"].before == {"id": "user-1", "plan": None}


def test_a_date_format_is_shown_as_the_job_file_has_it(tmp_path: Path) -> None:
    fields = {
        name: {"column": "day", "type": "date", "transform": {"date_format": formats}}
        for name, formats in (("one", "%d.%m.%Y"), ("two", ["%d.%m.%Y", "%Y"]))
    }
    job = parse_job(
        json.dumps({"identification": {"user_id": "id", "user_properties": fields}}),
        name="job.yml",
        folder=tmp_path,
    )
    one, two = (options_text(options_of(spec)) for _, spec in list(job.identification.located())[1:])
    assert one == "type: date, date_format %d.%m.%Y"
    assert two == 'type: date, date_format ["%d.%m.%Y", "%Y"]'


def test_values_are_counted_as_the_json_that_is_sent() -> None:
    """Elements that are not text lie in a list of text with marks, which nobody is to see."""
    lists = pa.array([["a", mark_json_text('{"b":1}'), mark_json_text("2")], ["c"], []])
    assert json_of(countable(lists), lists.type) == ['["a",{"b":1},2]', '["c"]', "[]"]


@pytest.mark.parametrize(
    "kind", [pa.date32(), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.large_string(), pa.float64()]
)
def test_lists_of_every_type_are_counted_as_json(kind: pa.DataType) -> None:
    texts = pa.array(["1"] * 3) if pa.types.is_large_string(kind) else pa.array([1, 2, 3])
    elements = texts.cast(pa.int32()).cast(kind) if pa.types.is_date(kind) else texts.cast(kind)
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 3]), elements)
    assert [json.loads(text) for text in json_of(countable(lists), lists.type)] == [
        json.loads(text) for text in json_texts(lists).to_pylist()
    ]


def test_maps_are_counted_as_json() -> None:
    maps = pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64()))
    assert json_of(countable(maps), maps.type) == ['{"a":1}', "{}"]


def test_signs_of_an_option_stand_in_quotes_and_a_value_map_is_one(tmp_path: Path) -> None:
    fields = {
        "fee": {"column": "fee", "type": "number", "decimal": ",", "thousands": ".", "strip": "€ "},
        "news": {"column": "news", "values": {"Ja": True, "nein": False}},
    }
    job = parse_job(
        json.dumps({"identification": {"user_id": "id", "user_properties": fields}}),
        name="job.yml",
        folder=tmp_path,
    )
    fee, news = (options_text(options_of(spec)) for _, spec in list(job.identification.located())[1:])
    assert fee == 'type: number, decimal: ",", thousands: ".", strip: "€ "'
    assert news == "values: {Ja: true, nein: false}"


def test_what_was_skipped_has_no_remedy_that_is_in_force() -> None:
    assert SKIP_REMEDIES["bad_date"] == "add the format to `date_format`"
    assert SKIP_REMEDIES["bad_number"] == "set `decimal`, `thousands` and `strip`"
    assert not [text for text in SKIP_REMEDIES.values() if "invalid: skip" in text]
