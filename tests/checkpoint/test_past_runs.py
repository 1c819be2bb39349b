"""A past run is known again by its files."""

from __future__ import annotations

from etl.checkpoint import PastRun, mark_of
from tests.examples import each_row


@each_row(
    ("mine", "theirs", "overlap"),
    [
        (["a", "b"], ["b", "a"], "all"),
        (["a", "b"], ["a"], "some"),
        (["a"], ["a", "a"], "some"),
        (["a", None], ["a", None], "some"),
        (["a"], ["b"], "none"),
        ([None], [None], "none"),
    ],
)
def test_a_source_overlaps_a_past_run_by_its_files(
    mine: list[str | None], theirs: list[str | None], overlap: str
) -> None:
    assert (
        PastRun("x", resent=False, rows=1, number=1, counted=True, marks=tuple(mine)).overlap(theirs)
        == overlap
    )


def test_a_file_is_marked_by_its_digest_or_else_by_all_that_is_known_of_it() -> None:
    assert mark_of(["a.csv", 5, 1.5, "x"], "abc") == mark_of(["b.csv", 5, None, "y"], "abc") == "5:abc"
    assert mark_of(["a.csv", 5, 1.5, "x"], None) == "a.csv:5:1.5:x"
    assert mark_of(["a.csv", 5, None, "x"], None) is None
