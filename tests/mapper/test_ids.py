"""What becomes of ids: text, trimmed, and checked before Amplitude refuses a whole request for them."""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa
import pytest

from etl.amplitude import REFUSED_IDS
from etl.job.spec import ColumnSpec, Identification, Step
from etl.mapper import Mapper
from tests.mapper.mapping import batch_of, reasons, sent


def ids_of(values: pa.Array, **spec: Any) -> list[str | None]:
    """For each value the user_id that is sent, or the code of the reject."""
    identification = Identification({"user_id": ColumnSpec(column="id", **spec)}, unset=("x",))
    mapped = Mapper(identification).map(batch_of({"id": values}))
    found: list[str | None] = [None] * len(values)
    for place, line in zip(mapped.kept.tolist(), sent(mapped), strict=True):
        found[place] = line["user_id"]
    for reject in mapped.rejects:
        found[reject.row - 1] = f"<{reject.code}>"
    return found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  user-1\u00a0\n", "user-1"),
        ("ünï😀1", "ünï😀1"),
        ("abcd", "<short_id>"),
        (" abcd ", "<short_id>"),
        ("😀" * 4, "<short_id>"),
        ("é" * 1024, "é" * 1024),
        ("é" * 1025, "<long_id>"),
        ("", "<missing_id>"),
        (" \t", "<missing_id>"),
        (None, "<missing_id>"),
        ("unknown1", "unknown1"),
    ],
)
def test_an_id_is_trimmed_and_measured_in_characters(value: str | None, expected: str) -> None:
    assert ids_of(pa.array([value], pa.string())) == [expected]


@pytest.mark.parametrize("word", sorted(REFUSED_IDS))
def test_ids_that_stand_for_no_user_are_refused_whatever_their_case(word: str) -> None:
    assert ids_of(pa.array([word, word.upper(), f" {word.title()} "])) == ["<refused_id>"] * 3


def test_ids_of_other_types_become_text() -> None:
    assert ids_of(pa.array([12345, None])) == ["12345", "<missing_id>"]
    assert ids_of(pa.array([12345.0, float("nan"), 1.5])) == ["12345", "<missing_id>", "<mangled_id>"]
    assert ids_of(pa.array([b"user-1", b"user-\xff"])) == ["user-1", "<bad_text>"]
    assert ids_of(pa.array(["user-1", None, "user-1"]).dictionary_encode()) == [
        "user-1",
        "<missing_id>",
        "user-1",
    ]
    assert ids_of(pa.array([2**63 - 1]), type="string") == [str(2**63 - 1)]
    one = uuid.uuid4()
    storage = pa.array([one.bytes], pa.binary(16))
    assert ids_of(pa.ExtensionArray.from_storage(pa.uuid(), storage)) == [str(one)]


def test_steps_see_trimmed_ids_and_the_result_is_what_counts() -> None:
    prefix = (Step("prefix", "crm-"),)
    assert ids_of(pa.array(["17", " 17 ", ""]), transform=prefix) == ["crm-17", "crm-17", "<missing_id>"]
    assert ids_of(pa.array([17.0, 18.0]), transform=prefix) == ["crm-17", "crm-18"]


def test_one_id_is_enough_but_a_bad_one_is_not_overlooked() -> None:
    fields = {"user_id": ColumnSpec(column="a"), "device_id": ColumnSpec(column="b")}
    batch = batch_of(
        {
            "a": pa.array(["user-1", None, "", "user-4", "null"]),
            "b": pa.array(["", "dev-2", "", "x", "dev-5"]),
        }
    )
    mapped = Mapper(Identification(fields, unset=("x",))).map(batch)
    unset = {"user_properties": {"$unset": {"x": "-"}}}
    assert sent(mapped) == [{"user_id": "user-1", **unset}, {"device_id": "dev-2", **unset}]
    assert reasons(mapped) == {
        3: "column a and column b: there is no user_id or device_id",
        4: 'column b: device_id "x" has fewer than 5 characters',
        5: 'column a: Amplitude refuses "null" as a user_id: it stands for no user',
    }
