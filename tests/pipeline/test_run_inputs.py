"""Two runs are the same if both send the same bytes; how they differ is told in words."""

from __future__ import annotations

import pytest

from etl.pipeline.run_inputs import difference
from tests.examples import each_row


def run_of(*files: list[object], **changes: object) -> dict[str, object]:
    plain = {"job": "a", "endpoint": "https://here", "transport": "identify", "full": False}
    return {**plain, "limits": {"identifications": 500}, "source": list(files), **changes}


FILE: list[object] = ["users.csv", 100, 5, "abc"]


@each_row(
    ("now", "text"),
    [
        (run_of(FILE, endpoint="https://there"), "to another destination: https://here, not https://there"),
        (run_of(FILE, transport="batch"), "over another transport: identify, not batch"),
        (run_of(FILE, job="b"), "of another job"),
        (run_of(FILE, full=True), "begun without --full"),
        (run_of(FILE, limits={"identifications": 50}), "--batch-size 500, not 50"),
        (run_of(["users.csv", 101, 5, "abc"]), "of another source: users.csv has changed"),
        (run_of(["users.csv", 100, 5, "abd"]), "of another source: users.csv has changed"),
        (run_of(["other.csv", 100, 5, "abc"]), "users.csv isn't among the files any more"),
        (run_of(FILE, ["more.csv", 1, 1, ""]), "of another source: more.csv is new"),
        (run_of(["stdin", None, None, "abc"], ["2f"]), "a stream such as stdin can't be resumed"),
    ],
)
def test_how_two_runs_differ(now: dict[str, object], text: str) -> None:
    found = difference(run_of(FILE), now, lambda file: None)
    assert found is not None
    assert text in found


@pytest.mark.parametrize(
    ("time", "content", "same"),
    [(5, None, True), (6, True, True), (6, False, False), (6, None, False), (None, None, False)],
)
def test_where_only_the_time_differs_the_content_decides(
    time: int | None, content: bool | None, same: bool
) -> None:
    found = difference(run_of(FILE), run_of(["users.csv", 100, time, "abc"]), lambda file: content)
    assert (found is None) == same


def test_of_a_table_in_memory_the_content_decides_as_far_as_it_is_known() -> None:
    table = run_of(["table", None, None, "abc"])
    assert [difference(table, table, lambda file, c=known: c) is None for known in (True, None, False)] == [  # type: ignore[misc]
        True,
        True,
        False,
    ]
