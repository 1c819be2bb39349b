"""Whom an update is about follows from the id columns, and so do its keys."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from etl.subject import Subject, device_keys, id_keys, names_device_alone, subject_of, user_keys

IDS = pa.record_batch({"device_id": ["x", None, "y"], "user_id": ["a", "b", None], "plan": ["p", "q", "r"]})


@pytest.mark.parametrize(
    ("names", "subject", "fields"),
    [
        (["plan", "user_id"], Subject("user_id"), ("user_id",)),
        ({"device_id": 1, "plan": 2}, Subject("device_id"), ("device_id",)),
        (["device_id", "user_id"], Subject("user_id", "device_id"), ("user_id", "device_id")),
    ],
)
def test_the_user_leads(names: list[str], subject: Subject, fields: tuple[str, ...]) -> None:
    assert Subject.of(names) == subject
    assert subject.fields == fields


def test_the_columns_come_with_the_leading_one_first() -> None:
    assert [(name, ids.to_pylist()) for name, ids in subject_of(IDS).columns(IDS)] == [
        ("user_id", ["a", "b", None]),
        ("device_id", ["x", None, "y"]),
    ]


def test_keys_tell_which_id_is_absent() -> None:
    keys = user_keys(IDS)
    users = id_keys("user_id", pa.array(["a", "b"]))
    devices = id_keys("device_id", pa.array(["x", "y"]))
    assert keys[:, 0].tolist() == [*users.tolist(), devices[1]]
    assert device_keys(keys).tolist() == [devices[0], users[1], devices[1]]
    assert names_device_alone(keys).tolist() == [False, False, True]
    assert names_device_alone(keys[:, :1]).tolist() == [False] * 3


def test_a_text_has_another_key_in_each_field() -> None:
    same = pa.array(["same"])
    assert not np.array_equal(id_keys("user_id", same), id_keys("device_id", same))
