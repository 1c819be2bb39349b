"""Rows of a device alone count for the user to whom it was linked first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from etl.snapshot import DeviceLinks, FieldGroup, Layout, SnapshotWriter, comparison, device_owners
from tests.snapshot.builders import header, opened

LAYOUT = Layout("property", (FieldGroup("a", (("a",),)),), paired=True)


def pairs(*rows: tuple[int, int]) -> NDArray[np.uint64]:
    return np.array(rows, dtype=np.uint64).reshape(-1, 2)


def user_alone(user: int) -> tuple[int, int]:
    """A row without a device has a key there that no device has."""
    return user, 2**64 - 1 - user


def write(path: Path, keys: NDArray[np.uint64]) -> None:
    with SnapshotWriter(path, LAYOUT, header()) as fresh:
        fresh.add(keys, np.ones((len(keys), 2), dtype=np.uint32))
        assert fresh.finish() == len(np.unique(keys[keys < 100]))


def test_a_device_that_the_snapshot_knows_keeps_its_first_user(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.arrow"
    write(path, pairs((1, 11), (2, 11), (3, 3), user_alone(4)))
    rows = pairs((11, 11), (3, 3), (2, 11), user_alone(11))
    with opened(path) as old:
        assert device_owners(rows, old).tolist() == [1]
        links = DeviceLinks(old)
        links.collect(rows)
        assert links.resolve(rows)[:, 0].tolist() == [1, 3, 2, 11]


@pytest.mark.parametrize("most", [0, 10])
def test_a_device_that_is_linked_in_this_run_counts_for_its_user_from_then_on(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(comparison, "_MOST_LINKS", most)
    links = DeviceLinks(None)
    first, second = pairs((11, 11), (12, 12)), pairs((1, 11), (2, 11), (11, 11), (12, 12))
    for rows in (second, first):
        links.collect(rows)
    assert links.resolve(first)[:, 0].tolist() == [11, 12]
    assert links.resolve(second)[:, 0].tolist() == ([1, 2, 1, 12] if most else [1, 2, 11, 12])


def test_without_a_row_of_a_device_alone_nothing_is_remembered() -> None:
    links = DeviceLinks(None)
    for rows in (pairs((1, 11)), np.array([[1]], dtype=np.uint64)):
        links.collect(rows)
        assert links.resolve(rows) is rows
