"""The steps of a column's transform: in order, before the type, on the value's text."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa

from etl.job.column_spec import Step
from tests.mapper.mapping import outcomes

TRIM, LOWER, UPPER, SHA256 = (Step(word) for word in ("trim", "lower", "upper", "sha256"))


def dated(format_: str, *texts: str | None, **spec: Any) -> list[Any]:
    return outcomes(list(texts), transform=(Step("date_format", formats=(format_,)),), **spec)


STEPS: list[tuple[tuple[Step, ...], str, str | None]] = [
    ((TRIM,), "\u3000 a b\u00a0\n", "a b"),
    ((LOWER,), "ÄB", "äb"),
    ((UPPER,), "äb", "ÄB"),
    ((TRIM, LOWER, SHA256), " A@b.c ", hashlib.sha256(b"a@b.c").hexdigest()),
    ((SHA256,), "é", hashlib.sha256("é".encode()).hexdigest()),
    ((Step("prefix", "crm-"), UPPER), "a", "CRM-A"),
    ((UPPER, Step("prefix", "crm-")), "a", "crm-A"),
    ((Step("replace", pairs=(("a.", "b"), ("b", "c"))),), "a.ab", "cac"),
    ((Step("replace", pairs=(("", "x"), ("a", "b"))),), "a", "b"),
    ((TRIM, SHA256), "  ", None),
    ((Step("replace", pairs=(("-", ""),)), Step("prefix", "p")), "-", None),
]


def test_steps_are_applied_in_order() -> None:
    for steps, text, expected in STEPS:
        assert outcomes([text, None], transform=steps) == [expected, None], steps


def test_the_type_is_read_after_the_steps() -> None:
    steps = (Step("replace", pairs=((",", "."), ("$", ""))), TRIM)
    assert outcomes(["$ 12,5", "x"], transform=steps, type="number") == [12.5, "<bad_number>"]


def test_values_of_typed_sources_are_made_text_first() -> None:
    prefix = (Step("prefix", "n"),)
    assert outcomes(pa.array([17, None]), transform=prefix) == ["n17", None]
    assert outcomes(pa.array([17.0, 0.5, float("nan")]), transform=prefix) == ["n17", "n0.5", None]
    assert outcomes(pa.array([True]), transform=prefix) == ["ntrue"]


FORMATS = [
    ("%m/%d/%Y", "3/8/1971", "1971-03-08"),
    ("%d.%m.%Y", "29.02.2024", "2024-02-29"),
    ("%d.%m.%Y", "30.02.2024", "<bad_date>"),
    ("%d.%m.%Y", "29.02.2024 ", "<bad_date>"),
    ("%d.%m.%Y", "", None),
    ("%d%m%Y", "01022024", "2024-02-01"),
    ("%d/%m/%y", "01/02/68", "2068-02-01"),
    ("%d/%m/%y", "01/02/69", "1969-02-01"),
    ("%d %b %Y", "1 Feb 2024", "2024-02-01"),
    ("%d %b %Y", "1 Foo 2024", "<bad_date>"),
    ("%Y-%m-%d %I:%M %p", "2024-02-01 01:05 PM", "2024-02-01T13:05:00"),
    ("%Y-%m-%dT%H:%M:%S.%f%z", "2024-02-01T00:05:06.789+01:00", "2024-01-31T23:05:06"),
    ("%Y-%m-%d %H:%M", "1969-12-31 23:59", "1969-12-31T23:59:00"),
    ("%Y-%m-%d", "now", "<bad_date>"),
    ("%Y-%m-%d", "0001-01-01", "0001-01-01"),
    ("%A, %d %B %Y %H:%M:%S %z", "Monday, 01 January 0001 00:00:00 +0100", "<bad_date>"),
    ("%d.%m.%Y 100%%", "01.02.2024 100%", "2024-02-01"),
    ("%Y %Y", "2024 2024", "<bad_date>"),
]


def test_dates_are_read_in_the_format_of_the_source() -> None:
    for format_, text, expected in FORMATS:
        assert dated(format_, text, None) == [expected, None], (format_, text)


def test_a_date_format_fits_both_types() -> None:
    assert dated("%d/%m/%Y", "03/08/1971", type="date") == ["1971-08-03"]
    assert dated("%d/%m/%Y", "03/08/1971", type="datetime") == ["1971-08-03T00:00:00"]
    assert dated("%d/%m/%Y %H:%M", "03/08/1971 10:11", type="date") == ["1971-08-03"]
    assert dated("%d/%m/%Y", "03/08/1971", type="string") == ["1971-08-03"]


def test_a_step_after_a_date_format_works_on_its_text() -> None:
    steps = (Step("date_format", formats=("%d/%m/%Y",)), Step("prefix", "born "))
    assert outcomes(["03/08/1971"], transform=steps) == ["born 1971-08-03"]


def test_words_for_booleans_beside_numbers_stay_booleans() -> None:
    for number in ("2.5", "1"):
        words = (("n", number), ("yes", "true"), ("no", "false"), ("?", "null"))
        found = outcomes(["yes", "n", "no", "?"], values=words)
        assert json.dumps(found) == f"[true, {number}, false, null]"
