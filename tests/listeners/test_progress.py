from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.listeners.progress import ProgressRate
from tests.examples import examples


def test_rows_of_earlier_runs_never_count() -> None:
    pace = ProgressRate(1_000_000, 100.0)
    pace.note(1_000_500, 105.0)
    assert pace.rate(105.0) == pytest.approx(100.0)


def test_nothing_is_promised_before_the_first_rows() -> None:
    pace = ProgressRate(0, 0.0)
    assert pace.rate(0.0) == 0.0
    assert pace.left(100, 3.0) is None


def test_the_rate_falls_while_nothing_is_settled() -> None:
    pace = ProgressRate(0, 0.0)
    pace.note(1000, 10.0)
    assert pace.rate(20.0) == pytest.approx(50.0)


def test_old_speed_is_forgotten_after_the_window() -> None:
    pace = ProgressRate(0, 0.0, window=30.0)
    for second in range(1, 101):
        pace.note(1000 * second, float(second))
    for second in range(101, 141):
        pace.note(100_000 + 10 * (second - 100), float(second))
    assert pace.rate(140.0) == pytest.approx(10.0, rel=0.05)


def test_rows_beyond_the_total_leave_no_time() -> None:
    pace = ProgressRate(0, 0.0)
    pace.note(110, 1.0)
    assert pace.left(100, 1.0) == 0.0


@settings(max_examples=examples(100))
@given(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=300), st.integers(1, 10_000))
def test_a_steady_run_has_its_rate_at_every_instant_however_often_it_tells(
    gaps: list[float], rows_per_second: int
) -> None:
    pace, now = ProgressRate(7, 50.0), 50.0
    for gap in gaps:
        now += gap
        rows = 7 + round((now - 50.0) * rows_per_second)
        pace.note(rows, now)
    assert pace.rate(now) == pytest.approx(rows_per_second, abs=1.1 / min(now - 50.0, 30.0))


def test_what_is_kept_never_grows_with_how_often_it_is_told() -> None:
    pace = ProgressRate(0, 0.0)
    for hundredth in range(1, 10_001):
        pace.note(hundredth, hundredth / 100)
    assert len(pace._samples) <= 34
    assert pace.rate(100.0) == pytest.approx(100.0)
