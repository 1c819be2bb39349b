from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.init import facts
from etl.init.id_facts import DistinctCounter
from etl.init.recognisers import NULLS, are_null
from etl.reader import open_source
from tests.init.proposals import column_source, job_of, proposed, rejects_of, spec_of, table_source

words = st.sampled_from(sorted(NULLS))
blanks = st.text(" \t\u00a0\u3000", max_size=2)
written = words | words.map(str.upper) | words.map(str.title) | words.map(lambda word: f"{word}1")


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


def test_a_full_sketch_stays_exact_until_one_more_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.init.id_facts.KEPT_HASHES", 100)
    counted = DistinctCounter()
    counted.add(pa.array([str(number) for number in range(100)]))
    assert (counted.exact, counted.count) == (True, 100)
    counted.add(pa.array(["7", "8"]))
    assert counted.exact
    counted.add(pa.array([str(number) for number in range(100, 400)]))
    assert not counted.exact


@given(st.lists(st.builds("{}{}{}".format, blanks, written | st.text(max_size=4), blanks), max_size=8))
def test_words_for_null_are_found_however_they_are_written(texts: list[str]) -> None:
    array = pa.array(texts, pa.string())
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(array)).to_pylist()
    assert are_null(array).tolist() == [text in NULLS for text in plain]


@pytest.mark.parametrize(
    "columns",
    [
        {"score": [number / 7 for number in range(2_500)]},  # no column looks like an id
        {"user_id": [f"{number}.5" for number in range(2_500)]},
        {"country": ["NA", "DE", "FR", "NA"], "plan": ["a"] * 4},
    ],
)
def test_rejects_are_told_as_they_come_whatever_column_is_the_id(
    columns: dict[str, list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "MOST_KEPT", 2_000)
    source = table_source(columns)
    proposal = proposed(source)
    assert proposal.rejects == rejects_of(job_of(proposal, source), source)


def test_what_stays_text_after_all_is_sent_as_its_remarks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "MOST_KEPT", 2_000)
    column_source(tmp_path, [str(number) for number in range(2_500)])
    (tmp_path / "users.csv").rename(tmp_path / "numbers.csv")
    column_source(tmp_path, ["NA"] * 100 + [f"{'x' * 1_100}{number}" for number in range(1_000)])
    source = open_source(["numbers.csv", "users.csv"], folder=tmp_path)
    proposal = proposed(source)
    assert "v stays text" in proposal.text
    assert "1,000 values of more than 1,024 characters will be cut" in proposal.text
    assert "100 of 3,600 rows empty" in proposal.text
    assert (spec_of(source).too_long, spec_of(source).nulls) == ("truncate", ("NA",))
    assert proposal.rejects == rejects_of(job_of(proposal, source), source) == {}
