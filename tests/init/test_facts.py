from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from etl.init.id_facts import DistinctCounter


@given(st.lists(st.lists(st.text(min_size=1, max_size=3), max_size=10), max_size=6))
def test_few_texts_are_counted_exactly_however_they_come(batches: list[list[str]]) -> None:
    counted = DistinctCounter()
    for batch in batches:
        counted.add(pa.array(batch, pa.string()))
    assert counted.count == len({text for batch in batches for text in batch})
    assert counted.exact


def test_many_texts_are_estimated_closely_and_repeats_change_nothing() -> None:
    counted = DistinctCounter()
    texts = [f"user-{number}" for number in range(80_000)]
    for start in [*range(0, 80_000, 8_000), 0, 40_000]:
        counted.add(pa.array(texts[start : start + 8_000]))
    assert not counted.exact
    assert abs(counted.count - 80_000) < 1_600


def test_a_full_sketch_stays_exact_until_one_more_comes() -> None:
    counted = DistinctCounter(kept=100)
    counted.add(pa.array([str(number) for number in range(100)]))
    assert (counted.exact, counted.count) == (True, 100)
    counted.add(pa.array(["7", "8"]))
    assert counted.exact
    counted.add(pa.array([str(number) for number in range(100, 400)]))
    assert not counted.exact
