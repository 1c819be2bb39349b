"""Which way a job goes, and what only one of them takes."""

from __future__ import annotations

import pytest

from etl.job import ColumnSpec, fingerprint
from tests.job.writing import fault, job

BATCH = "destination: {transport: batch}\n"
PLAIN = "identification: {user_id: id, user_properties: {plan: plan}}\n"
JOB = "identification: {user_id: id, time: seen, user_properties: {plan: plan}}\n"


def test_identify_is_the_way_unless_a_job_says_batch() -> None:
    plain = "identification: {user_id: id, user_properties: {plan: plan}}\n"
    assert job(plain).destination.transport == "identify"
    assert job(plain + BATCH).destination.transport == "batch"


def test_a_time_is_a_column_of_events() -> None:
    made = job(JOB + BATCH)
    assert made.identification.fields["time"] == ColumnSpec("seen")
    assert made.identification.columns() == ("id", "seen", "plan")
    assert fingerprint(made) != fingerprint(job(JOB.replace("seen", "came") + BATCH))


@pytest.mark.parametrize("way", ["", "destination: {transport: identify}\n", "destination: {region: eu}\n"])
def test_the_identify_api_takes_no_time(way: str) -> None:
    line, message = fault(JOB + way)
    assert (line, "`time` needs `transport: batch`" in message) == (1, True), message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{column: seen, type: string}", "`time` is a moment; use datetime or date or number or integer"),
        ("{value: soon}", "`value` must be a time such as 2024-12-31T23:59:59Z"),
        ("{column: seen, default: soon}", "`default` must be a time such as 2024-12-31T23:59:59Z"),
        ("{column: seen, null: unset}", "only a property under `$set` can be unset"),
        ("{}", "`time` needs a `column`, or a `value` for a constant"),
    ],
)
def test_a_time_is_a_moment(spec: str, words: str) -> None:
    text = f"destination: {{transport: batch}}\nidentification:\n  user_id: id\n  time: {spec}\n"
    line, message = fault(text)
    assert (line, words in message) == (4, True), message


def test_a_time_may_be_a_constant_and_have_a_default() -> None:
    fixed = job("identification: {user_id: id, time: {value: 2024-05-01T10:00:00+02:00}}\n" + BATCH)
    assert fixed.identification.fields["time"].constant == '"2024-05-01T08:00:00"'
    spec = "{column: seen, type: integer, default: 2024-05-01}"
    filled = job(f"identification: {{user_id: id, time: {spec}}}\n" + BATCH)
    assert filled.identification.fields["time"].default == '"2024-05-01T00:00:00"'


def test_a_status_is_trusted_only_where_the_job_says_so() -> None:
    plain, trusting = (
        job(PLAIN),
        job(PLAIN + "destination: {region: 'http://127.0.0.1:1', trust_status: true}\n"),
    )
    assert not plain.destination.trust_status
    assert trusting.destination.trust_status
    assert trusting.lines["destination.trust_status"] == 2


def test_what_is_taken_for_an_acceptance_changes_nothing_of_what_is_sent() -> None:
    assert fingerprint(job(PLAIN)) == fingerprint(job(PLAIN + "destination: {trust_status: true}\n"))


@pytest.mark.parametrize("value", ["maybe", "1", "[true]", "''"])
def test_a_trust_that_is_neither_true_nor_false_is_a_fault(value: str) -> None:
    line, message = fault(PLAIN + f"destination: {{trust_status: {value}}}\n")
    assert line == 2
    assert "trust_status" in message
