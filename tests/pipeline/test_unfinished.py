"""What becomes of an unfinished run is a matter of a few facts, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.pipeline.guards import Unfinished, decide, difference, stop_hint
from tests.examples import each_row

SOURCE = "of another source: users.csv has changed"
SNAPSHOT = {"difference": "that compares with another snapshot", "other_snapshot": True}


@each_row(
    ("found", "wanted", "decision"),
    [
        # It fits.
        ({}, {}, "resume"),
        ({"accepted": 5, "in_flight": 9}, {}, "resume"),
        ({"accepted": 5, "in_flight": None, "counts": True}, {"on_change": "stop"}, "resume"),
        # Nothing was accepted, and nothing is under way: as if it had never been, whatever differs.
        ({"difference": SOURCE}, {}, "begin"),
        ({"difference": SOURCE, "counts": True}, {"on_change": "stop"}, "begin"),
        ({**SNAPSHOT, "counts": True}, {}, "begin"),
        ({}, {"restart": True}, "begin"),
        # Something was, or may have been.
        ({"difference": SOURCE, "accepted": 1}, {}, "restart"),
        ({"difference": SOURCE, "in_flight": 1}, {}, "restart"),
        ({"difference": SOURCE, "in_flight": None}, {}, "restart"),
        ({"difference": SOURCE, "accepted": 1}, {"on_change": "stop"}, "stop"),
        ({"difference": SOURCE, "accepted": 1, "counts": True}, {}, "stop"),
        ({"difference": SOURCE, "in_flight": 1, "counts": True}, {}, "stop"),
        ({"difference": SOURCE, "accepted": 1, "counts": True}, {"on_change": "restart"}, "restart"),
        ({"difference": SOURCE, "accepted": 1, "counts": True}, {"restart": True}, "restart"),
        ({"accepted": 1}, {"restart": True}, "restart"),
        # A snapshot that is gone may come back.
        ({**SNAPSHOT, "accepted": 1}, {}, "stop"),
        ({**SNAPSHOT, "accepted": 1}, {"on_change": "restart"}, "stop"),
        ({**SNAPSHOT, "accepted": 1}, {"restart": True}, "restart"),
        # Only its end is missing, for which its source isn't needed.
        ({"accepted": 1, "complete": True}, {}, "resume"),
        ({"difference": SOURCE, "accepted": 1, "complete": True, "counts": True}, {}, "finish"),
        ({"accepted": 1, "complete": True}, {"restart": True}, "finish"),
        # It was given up already, by a process that was killed then.
        ({"accepted": 1, "folded": True, "counts": True}, {}, "restart"),
        ({"difference": SOURCE, "accepted": 1, "folded": True}, {"on_change": "stop"}, "restart"),
    ],
)
def test_the_decision(found: dict[str, Any], wanted: dict[str, Any], decision: str) -> None:
    assert decide(Unfinished(**{"difference": None, **found}), **wanted) == decision


@given(
    st.builds(
        lambda how, **facts: Unfinished(**how, **facts),
        st.sampled_from([{"difference": None}, {"difference": SOURCE}, SNAPSHOT]),
        accepted=st.integers(0, 2),
        in_flight=st.none() | st.integers(0, 2),
        counts=st.booleans(),
        complete=st.booleans(),
        folded=st.booleans(),
    ),
    st.booleans(),
    st.sampled_from([None, "stop", "restart"]),
)
def test_what_arrived_is_never_forgotten_and_increments_never_restart_unasked(
    found: Unfinished, restart: bool, on_change: Any
) -> None:
    decision = decide(found, restart=restart, on_change=on_change)
    if decision == "begin":
        assert (found.accepted, found.in_flight) == (0, 0)
    if decision == "restart" and found.counts and not found.folded:
        assert restart or on_change == "restart"
    if decision == "resume":
        assert found.difference is None
        assert not found.folded
    if decision == "stop":
        assert not restart


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


def test_the_hint_never_asks_for_what_cannot_be_done() -> None:
    stopped = Unfinished(difference=SOURCE, accepted=3, counts=True)
    gone, there = (stop_hint(stopped, can_finish=can, increments=["$add"]) for can in (False, True))
    assert "finish that run" in there
    assert "finish that run" not in gone
    for hint in (gone, there):
        assert "--on-source-change restart" in hint
        assert "$add" in hint
