"""What becomes of an unfinished run is a matter of a few facts, and of nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from etl.pipeline.guards import Unfinished, decide, restart_message, stop_hint
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
        ({"accepted": 1, "in_snapshot": True, "counts": True}, {}, "restart"),
        ({"difference": SOURCE, "accepted": 1, "in_snapshot": True}, {"on_change": "stop"}, "restart"),
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
        in_snapshot=st.booleans(),
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
    if decision == "restart" and found.counts and not found.in_snapshot:
        assert restart or on_change == "restart"
    if decision == "resume":
        assert found.difference is None
        assert not found.in_snapshot
    if decision == "stop":
        assert not restart


def test_the_hint_never_asks_for_what_cannot_be_done() -> None:
    stopped = Unfinished(difference=SOURCE, accepted=3, counts=True)
    gone, there = (stop_hint(stopped, can_finish=can, increments=["$add"]) for can in (False, True))
    assert "finish that run" in there
    assert "finish that run" not in gone
    for hint in (gone, there):
        assert "--on-source-change restart" in hint
        assert "$add" in hint


@each_row(
    ("found", "said"),
    [
        (
            {"difference": "to another destination: https://a, not https://b", "in_flight": 1},
            "an unfinished run was given up, one to another destination: https://a, not https://b; "
            "it had accepted no row, and 1 user in flight is sent again",
        ),
        (
            {"difference": None, "accepted": 2500},
            "an unfinished run was given up; what it had accepted is kept (2,500 rows)",
        ),
    ],
)
def test_a_restart_says_what_was_given_up_and_what_stays(found: dict[str, Any], said: str) -> None:
    assert restart_message(Unfinished(**found), []) == said
