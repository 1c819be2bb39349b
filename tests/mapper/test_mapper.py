"""Whatever the values: a column's rules are those of single values, and batches don't matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.job.column_spec import ColumnSpec, Step
from etl.job.identification_spec import Identification
from etl.mapper import Mapper
from etl.model import Batch, Mapped
from tests.examples import examples
from tests.mapper import reference
from tests.mapper.mapping import batch_of, outcomes, sent

DIGITS = st.text("0123456789+-.eE", max_size=25)
WORDS = st.sampled_from(
    [
        "",
        " ",
        "true",
        "F",
        "yes",
        "0",
        "-1",
        "NaN",
        "inf",
        "null",
        "Anonymous",
        "user-1",
        " abcde ",
        "a" * 1025,
        "b," * 700,
    ]
)
CLOCK = r"[0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,3})?)?(Z|[+-][0-2][0-9]:?[0-6][0-9])?"
MOMENTS = st.from_regex(rf"[0-9]{{4}}-[01][0-9]-[0-3][0-9]([T ]{CLOCK})?", fullmatch=True)
DAYS = st.from_regex(r"[0-3]?[0-9]/[01]?[0-9]/[0-9]{4}", fullmatch=True)
ANYTHING = st.text(st.characters(codec="utf-8"), max_size=12)
TEXTS = st.one_of(DIGITS, WORDS, MOMENTS, DAYS, ANYTHING, st.text("a ,\u00a0;", max_size=8))

NUMERIC = st.text("0123456789.,eE+-'=", max_size=9)
AROUND = st.sampled_from(["", " ", "\u200b", "\ufeff\t", "\u00ad", "\u2066"])
ID_TEXTS = NUMERIC | st.tuples(AROUND, NUMERIC | WORDS, AROUND, NUMERIC | WORDS).map("".join)

RULES: list[tuple[dict[str, Any], Callable[[str], object]]] = [
    ({}, reference.string),
    ({"type": "number"}, reference.number),
    ({"type": "integer"}, reference.integer),
    ({"type": "boolean"}, reference.boolean),
    ({"type": "date"}, reference.date),
    ({"type": "datetime"}, reference.datetime),
    ({"type": "list"}, reference.list_),
    ({"transform": (Step("trim"), Step("sha256"))}, reference.hashed),
    ({"transform": (Step("date_format", "%d/%m/%Y"),)}, reference.day_first),
]


@pytest.mark.parametrize(("spec", "rule"), RULES, ids=[rule.__name__ for _, rule in RULES])
@settings(max_examples=examples(40), deadline=None)
@given(texts=st.lists(st.none() | TEXTS, max_size=12))
def test_a_column_is_mapped_as_its_values_one_by_one(
    spec: dict[str, Any], rule: Callable[[str], object], texts: list[str | None]
) -> None:
    if rule is reference.list_:  # arrays are read as such: see test_json_values
        texts = [text for text in texts if not text or not {"[", "{"} & set(text)]
    expected = [rule(text) if text else None for text in texts]
    assert repr(outcomes(texts, **spec)) == repr(expected)


@settings(max_examples=examples(40), deadline=None)
@given(texts=st.lists(TEXTS | ID_TEXTS, max_size=12))
def test_ids_are_checked_as_one_by_one(texts: list[str]) -> None:
    identification = Identification({"user_id": ColumnSpec(column="id")}, unset=("x",))
    mapped = Mapper(identification).map(batch_of({"id": pa.array(texts, pa.string())}, text=True))
    found = dict(zip((mapped.kept + 1).tolist(), (line["user_id"] for line in sent(mapped)), strict=True))
    found.update({reject.row: f"<{reject.code}>" for reject in mapped.rejects})
    short = [text if len(text) <= 1024 else "<long_id>" for text in map(reference.user_id, texts)]
    assert [found[row + 1] for row in range(len(texts))] == short


MIXED = Identification(
    {
        "user_id": ColumnSpec(column="a"),
        "device_id": ColumnSpec(column="b"),
        "country": ColumnSpec(column="c"),
    },
    groups={"g": ColumnSpec(column="c", type="list", separator=";")},
    operators={
        "$set": {
            "n": ColumnSpec(column="b", type="number", null="unset"),
            "j": ColumnSpec(column="c", type="json"),
            "d": ColumnSpec(column="d", default='"none"'),
        },
        "$append": {"l": ColumnSpec(column="d", type="date")},
    },
)


def _part(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(
        batch.source,
        batch.file,
        batch.first + start,
        batch.first + stop,
        batch.numbers[start:stop],
        batch.rows.slice(start, stop - start),
        text=batch.text,
    )


def _summary(*parts: Mapped) -> tuple[list[int], list[Any], list[Any]]:
    numbers = [number for part in parts for number in part.batch.numbers[part.kept].tolist()]
    return (
        numbers,
        [line for part in parts for line in sent(part)],
        [r for part in parts for r in part.rejects],
    )


@settings(max_examples=examples(40), deadline=None)
@given(
    rows=st.lists(st.tuples(WORDS | ANYTHING, WORDS | DIGITS, TEXTS, MOMENTS | WORDS), max_size=10),
    border=st.integers(0, 10),
    text=st.booleans(),
)
def test_every_row_is_in_one_place_wherever_batches_end(
    rows: list[tuple[str, ...]], border: int, *, text: bool
) -> None:
    columns = {name: pa.array([row[place] for row in rows], pa.string()) for place, name in enumerate("abcd")}
    batch = batch_of(columns, text=text)
    border = min(border, len(rows))
    mapper = Mapper(MIXED)
    whole, left, right = (
        mapper.map(part) for part in (batch, _part(batch, 0, border), _part(batch, border, len(rows)))
    )
    kept, rejected = whole.batch.numbers[whole.kept].tolist(), [reject.row for reject in whole.rejects]
    assert kept == sorted(set(kept))
    assert rejected == sorted(set(rejected))
    assert not set(kept) & set(rejected)
    assert whole.identifications.num_rows == len(kept)
    assert _summary(whole) == _summary(left, right)
    assert whole.identifications.schema == left.identifications.schema == right.identifications.schema
