from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.errors import EtlError, JobError
from etl.job.spec import Job, fingerprint, parse_job
from tests.examples import examples
from tests.job.job_texts import keys

VALID = """\
name: nightly
source: [exports/users-*.parquet, "${A}.csv"]
csv: {delimiter: ";", encoding: latin-1, header: [id, plan], skip_rows: 2}
nulls: ["NULL", "-"]
transform: clean.users:tidy
partial_families: reset
identification:
  user_id: {column: 2024, transform: [trim, {prefix: "crm-"}]}
  country: no
  groups: {team: {column: teams, type: list}}
  user_properties:
    $set:
      plan: &plan {column: plan_name, default: free, null: unset}
      again: *plan
      mrr: {column: mrr_usd, type: number, default: 0}
      constant: {value: [1, 2.5, "x", true, {a: b}]}
      born: {column: birthdate, transform: {date_format: ["%d/%m/%Y", "%Y"]}, type: date, invalid: skip}
      fee: {column: fee, type: number, decimal: ",", thousands: ".", strip: "€ ", nulls: [x]}
      seen: {column: seen, path: $date, type: datetime, timezone: Europe/Berlin}
      last: {column: last, type: date, unit: ms, timezone: Asia/Tokyo}
      news: {column: news, values: {Ja: true, nein: false, "?": null}}
    $add: {logins: new_logins}
    $unset: [legacy]
    $clearAll: true
destination: {region: eu, transport: identify}
"""
SIGNS = st.sampled_from(
    [*"\t\n :-[]{},&*!|>'\"%@`#?<$~.\\0e", "\ufeff", "\x00", "\ud800", "é", "<<: ", "${", "\n---\n", "!!int "]
)
KEYS = sorted(
    {
        *keys(),
        *keys("Identification"),
        *keys("ColumnSpec"),
        *keys("Operators"),
        *("prefix", "replace", "date_format", "region", "transport", "delimiter", "api_key", "$x", ""),
    }
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["trim", "date", "list", "unset", "%Y", "us", "http://", "a:b", "identify", "${A}", "\ud800"]
    )
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=15,
)


def parse(text: str) -> None:
    """A job or an EtlError; nothing else may come out."""
    with contextlib.suppress(EtlError):
        job = parse_job(text, name="job.yml", folder=Path(), environ={"A": "x"})
        assert len(fingerprint(job)) == 64


@given(st.text())
@example("? ? ? ")
@example('{"a": "\\ud800"}')
@example("a: &a [*a")
def test_no_text_breaks_the_reader(text: str) -> None:
    parse(text)


@given(at=st.integers(0, len(VALID)), length=st.integers(0, 8), sign=SIGNS | st.text(max_size=3))
@settings(max_examples=examples(180), deadline=None)
def test_no_slip_of_the_pen_breaks_the_reader(at: int, length: int, sign: str) -> None:
    parse(VALID[:at] + sign + VALID[at + length :])


@given(
    lines=st.lists(st.sampled_from(VALID.splitlines()), max_size=12), indent=st.sampled_from(["", " ", "  "])
)
@settings(deadline=None)
def test_no_shuffling_of_lines_breaks_the_reader(lines: list[str], indent: str) -> None:
    parse("\n".join(indent + line for line in lines))


@given(TREES, TREES, TREES)
@settings(max_examples=examples(180), deadline=None)
def test_no_data_breaks_the_door(identification: object, properties: object, other: object) -> None:
    data = {"source": other, "csv": other, "destination": other, "name": other}
    with contextlib.suppress(EtlError):
        Job.of({"identification": identification})
    with contextlib.suppress(EtlError):
        Job.of({**data, "identification": {"user_id": "id", "user_properties": properties, "groups": other}})


@given(st.dictionaries(st.sampled_from(KEYS), TREES, max_size=4))
@settings(deadline=None)
def test_a_fault_of_a_property_never_hides_one_elsewhere(spec: dict[str, object]) -> None:
    data = {"identification": {"user_id": "id", "user_properties": {"p": spec}}, "zzz": 1}
    with pytest.raises(JobError, match="unknown key `zzz`"):
        Job.of(data)


def test_the_file_that_is_mutated_is_good() -> None:
    assert parse_job(VALID, name="job.yml", folder=Path(), environ={"A": "x"}).name == "nightly"
