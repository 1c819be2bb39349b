"""How a job says what its files are like: `csv.escape`, `missing`, and the steps for bytes."""

from __future__ import annotations

import pytest

from etl.job import fingerprint
from etl.job.bare import plain
from etl.job.document import read_document
from etl.job.spec import Job, Step
from tests.job.test_schema import SCHEMA
from tests.job.writing import column, fault, job

IDENTIFICATION = "identification: {user_id: id}\n"


@pytest.mark.parametrize(
    ("text", "escape"),
    [
        ("", ""),
        ('csv: {escape: "\\\\"}', "\\"),
        ("csv: {escape: '\\'}", "\\"),
        ("csv: {escape: \\}", "\\"),
        ("csv: {escape: '\"'}", ""),  # as quotes are doubled anyway
        ("csv: {escape: '^', quote: \"'\"}", "^"),
    ],
)
def test_an_escape_is_one_character(text: str, escape: str) -> None:
    assert job(IDENTIFICATION + text).csv.escape == escape


@pytest.mark.parametrize("escape", ["''", "ab", "a", "é", "' '", '"\\t"'])
def test_what_is_no_escape_character_is_a_fault(escape: str) -> None:
    line, message = fault(f"{IDENTIFICATION}csv: {{escape: {escape}}}\n")
    assert line == 2
    assert "`escape` must be one character" in message


@pytest.mark.parametrize("written", ["null", '"null"', "~", ""])
def test_missing_null_is_a_word_and_yamls_null(written: str) -> None:
    text = f"{IDENTIFICATION}missing: {written}\n"
    assert job(text).missing == "null"
    assert SCHEMA.is_valid(plain(read_document(text).data))


def test_missing_fails_unless_told_otherwise() -> None:
    assert job(IDENTIFICATION).missing == job(f"{IDENTIFICATION}missing: fail\n").missing == "fail"
    assert Job.of({"identification": {"user_id": "id"}, "missing": None}).missing == "null"
    assert Job.of({"identification": {"user_id": "id"}, "missing": "null"}).missing == "null"
    line, message = fault(f"{IDENTIFICATION}missing: nul\n")
    assert (line, "did you mean `null`?" in message) == (2, True)
    assert not SCHEMA.is_valid(plain(read_document(f"{IDENTIFICATION}missing: zero\n").data))


def test_a_fingerprint_changes_only_with_what_differs_from_before() -> None:
    base = fingerprint(job(IDENTIFICATION))
    assert fingerprint(job(f"{IDENTIFICATION}missing: fail\n")) == base
    others = {f"{IDENTIFICATION}missing: null\n", f"{IDENTIFICATION}csv: {{escape: '\\'}}\n"}
    assert len({base, *(fingerprint(job(text)) for text in others)}) == 3


@pytest.mark.parametrize("word", ["hex", "uuid"])
def test_steps_for_bytes_are_words(word: str) -> None:
    assert column(f"{{column: c, transform: [{word}, upper]}}").transform == (Step(word), Step("upper"))  # type: ignore[arg-type]
