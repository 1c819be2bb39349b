"""Whom an update is about follows from the id columns, and so do its keys."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.subject import (
    Subject,
    device_keys,
    hash_texts,
    id_keys,
    keys_in,
    names_device_alone,
    subject_of,
    user_keys,
    without_users,
)

IDS = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=30)
BATCH = pa.record_batch({"device_id": ["x", None, "y"], "user_id": ["a", "b", None], "plan": ["p", "q", "r"]})


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
    assert [(name, ids.to_pylist()) for name, ids in subject_of(BATCH).columns(BATCH)] == [
        ("user_id", ["a", "b", None]),
        ("device_id", ["x", None, "y"]),
    ]


def test_keys_tell_which_id_is_absent() -> None:
    keys = user_keys(BATCH)
    users = id_keys("user_id", pa.array(["a", "b"]))
    devices = id_keys("device_id", pa.array(["x", "y"]))
    assert keys[:, 0].tolist() == [*users.tolist(), devices[1]]
    assert device_keys(keys).tolist() == [devices[0], users[1], devices[1]]
    assert names_device_alone(keys).tolist() == [False, False, True]
    assert names_device_alone(keys[:, :1]).tolist() == [False] * 3


def test_a_text_has_another_key_in_each_field() -> None:
    same = pa.array(["same"])
    assert not np.array_equal(id_keys("user_id", same), id_keys("device_id", same))


@given(IDS, st.data())
def test_an_id_has_the_same_key_wherever_it_stands(ids: list[str | None], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(ids)))
    column = pa.array(ids, pa.string())
    alone = [hash_texts(pa.array([text], pa.string()))[0] for text in ids]
    assert hash_texts(column).tolist() == [int(key) for key in alone]
    assert hash_texts(column, 1).tolist() == [
        int(hash_texts(pa.array([text], pa.string()), 1)[0]) for text in ids
    ]
    assert hash_texts(column.slice(start)).tolist() == [int(key) for key in alone[start:]]


def test_different_ids_have_different_keys() -> None:
    ids = pa.array(np.arange(300_000)).cast(pa.string())
    assert len(np.unique(hash_texts(ids))) == 300_000


def test_short_texts_have_different_keys() -> None:
    texts = ["", *(chr(n) * length for n in range(128) for length in range(1, 20))]
    assert len(np.unique(hash_texts(pa.array(texts)))) == len(texts)


def test_every_bit_of_a_key_is_used() -> None:
    keys = hash_texts(pa.array([f"user-{i}" for i in range(4096)]))
    ones = [(keys >> np.uint64(bit) & np.uint64(1)).mean() for bit in range(64)]
    assert all(0.45 < share < 0.55 for share in ones)


def test_two_id_columns_give_pairs_and_an_absent_id_joins_nobody() -> None:
    batch = pa.record_batch(
        {"user_id": ["u-one", None, "u-one", "u-two"], "device_id": [None, "d-one", "d-one", None]}
    )
    keys = user_keys(batch)
    assert keys.shape == (4, 2)
    assert keys[0, 0] == keys[2, 0]  # the same user
    assert keys[1, 1] == keys[2, 1]  # the same device
    assert keys[0, 1] != keys[3, 1]  # no device is not a common device
    assert keys[1, 0] == keys[1, 1]
    assert keys[0, 0] != keys[0, 1]


def test_a_user_and_a_device_of_one_name_are_two() -> None:
    user = user_keys(pa.record_batch({"user_id": ["same-name"]}))
    device = user_keys(
        pa.record_batch({"device_id": ["same-name"], "user_id": pa.array([None], pa.string())})
    )
    assert user[0, 0] not in device


def test_keys_are_looked_up_and_users_taken_out() -> None:
    keys = user_keys(pa.record_batch({"user_id": ["a", "b", "c"], "device_id": ["x", None, "y"]}))
    assert keys_in(keys, keys[1]).tolist() == [[False, False], [True, True], [False, False]]
    assert not keys_in(keys, keys[:0]).any()
    assert without_users(keys, keys[:2, 0]).tolist() == [keys[2].tolist()]
