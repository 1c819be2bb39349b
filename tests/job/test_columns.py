from __future__ import annotations

import time

import pytest

from etl.errors import JobError
from etl.job.problems import check_columns, check_repeated, did_you_mean, missing_columns
from tests.examples import each_row
from tests.job.job_texts import job

TEXT = """\
identification:
  user_id: id
  user_properties:
    $set:
      plan: plan_nam
      mrr:
        type: number
        column: MRR
      source: {value: crm}
    $setOnce: {first: colour}
  groups: {org: id}
"""


def test_every_unknown_column_is_told_with_its_line() -> None:
    with pytest.raises(JobError) as caught:
        check_columns(job(TEXT), ["id", "plan_name", "mrr"])
    assert [(fault.line, fault.message.partition("; ")[2]) for fault in caught.value.faults] == [
        (5, "did you mean `plan_name`?"),
        (8, "did you mean `mrr`?"),
        (10, ""),
    ]
    assert caught.value.hint == "the source has the columns id, plan_name, mrr"
    assert str(caught.value).startswith("job.yml:5: the source has no column `plan_nam`")


def test_columns_that_are_there_are_no_fault() -> None:
    check_columns(job(TEXT), ["MRR", "colour", "plan_nam", "id", "more"])


def test_names_that_stand_in_one_column_want_another_delimiter() -> None:
    made = job("identification:\n  user_id: id\n  user_properties: {plan: plan}\n")
    with pytest.raises(JobError) as caught:
        check_columns(made, ["id^plan"])
    assert [fault.message.partition(")")[2] for fault in caught.value.faults] == ["", ""]
    assert "one column, `id^plan`" in str(caught.value.hint)
    assert "`csv: {delimiter: SIGN}`" in str(caught.value.hint)
    with pytest.raises(JobError) as caught:
        check_columns(made, ["id"])
    assert caught.value.hint == "the source has one column, `id`"


def test_a_source_without_columns_is_told() -> None:
    with pytest.raises(JobError, match="the source has no columns"):
        check_columns(job("identification: {user_id: id}"), [])


def test_a_wide_source_is_not_listed_whole() -> None:
    with pytest.raises(JobError) as caught:
        check_columns(job("identification: {user_id: zzz}"), [f"column_{i}" for i in range(500)])
    assert str(caught.value).endswith("column_9, ...")


def test_thousands_of_unknown_columns_are_told_at_once() -> None:
    lines = "".join(f"    p{i}: column_{i}_x\n" for i in range(999))
    made = job(f"identification:\n  user_id: id\n  user_properties:\n{lines}")
    begun = time.process_time()
    with pytest.raises(JobError) as caught:
        check_columns(made, [f"column_{i}_y" for i in range(5000)])
    assert time.process_time() - begun < 2
    assert len(caught.value.faults) == 1000


def test_a_column_that_a_file_has_twice_is_a_fault_of_the_line_that_names_it() -> None:
    check_repeated(job(TEXT), "users.csv", {"other": [1, 2]})
    with pytest.raises(
        JobError, match=r"job\.yml:5: users\.csv has `plan_nam` in columns 2, 3 and 5"
    ) as caught:
        check_repeated(job(TEXT), "users.csv", {"plan_nam": [2, 3, 5]})
    assert "skip_rows: 1" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["plan"], "has no column `plan`, which other files of the source have; did you mean `plan_name`?"),
        (["a", "b"], "has no columns `a`, `b`, which other files of the source have"),
        ([f"c{number}" for number in range(11)], "`c9`, ..., which other files"),
    ],
)
def test_columns_that_one_file_lacks_are_an_error_of_the_source(missing: list[str], message: str) -> None:
    error = missing_columns("b.csv", missing, ["id", "plan_name"])
    assert message in str(error)
    assert "missing: null" in str(error.hint)


@each_row(
    ("wanted", "name", "shown"),
    [
        ("pl\u00e3n", "pla\u0303n", '"pla\\u0303n", which only looks the same?'),
        ("plan b", "plan\u00a0b", '"plan\\u00a0b", which only looks the same?'),
        ("plan", "plan ", "`plan `?"),
        ("plan", "Plan", "`Plan`?"),
    ],
)
def test_a_column_that_only_looks_the_same_is_shown_with_escapes(wanted: str, name: str, shown: str) -> None:
    assert did_you_mean(wanted, [name]) == f"; did you mean {shown}"
