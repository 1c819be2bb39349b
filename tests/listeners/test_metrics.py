from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from etl.errors import StateError, UsageError
from etl.listeners.metrics import MetricsListener, MetricValues, metrics_text
from etl.run_events import Ended, Paused, Progressed, Recovered, Summary
from etl.tally import Tally
from tests.examples import examples

from .events import BEGAN, TALLY, TIMING, Clock, started, summary

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert family.type in {"counter", "gauge"}, family.name
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


class Played:
    """A metrics listener, its clock and its file."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, Clock()
        self.tell = MetricsListener(path, clock=self.clock)

    def value(self, name: str, job: str = "nightly", **labels: str) -> float | None:
        key = (f"propsync_{name}", frozenset({"job": job, **labels}.items()))
        return samples(self.path.read_text()).get(key)


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path / "run.prom")


def test_says_what_was_counted(played: Played) -> None:
    played.tell(started())
    played.clock.forward(250)
    played.tell(Ended(summary()))
    ends = ("accepted", "unchanged", "merged", "rejected")
    assert [played.value("rows_total", outcome=end) for end in ends] == [900_000, 60_000, 39_000, 1_000]
    assert played.value("rejects_total", code="bad_number") == 800
    assert played.value("requests_total") == 2_000
    assert played.value("retries_total") == 12
    assert played.value("throttled_total") == 3
    assert played.value("in_doubt_total") == 2
    assert played.value("uncounted_total") == 5
    assert played.value("bytes_total") == 345_678_901
    assert played.value("run_seconds") == 250
    assert played.value("source_rows") == 2_000_000
    assert played.value("last_success_timestamp_seconds") == BEGAN.timestamp() + 250


def test_says_where_the_time_went_at_the_end(played: Played) -> None:
    played.tell(started())
    assert played.value("stage_seconds_total", stage="rate") is None
    played.tell(Ended(replace(summary(), timing=TIMING)))
    stages = ("source", "map", "diff", "encode", "idle", "user", "rate", "pause", "request", "commit")
    seconds = [played.value("stage_seconds_total", stage=stage) for stage in stages]
    assert seconds == [getattr(TIMING, stage) for stage in stages]
    assert [played.value("answer_seconds", quantile=q) for q in ("0.5", "0.95", "0.99")] == [0.08, 0.2, 1.5]


def test_is_there_from_the_start_with_the_rows_of_earlier_runs(played: Played) -> None:
    played.tell(started(resumed=TALLY))
    assert played.value("rows_total", outcome="accepted") == 900_000
    assert played.value("resumed_rows") == 1_000_000
    assert played.value("run_status", status="running") == 1


def test_is_written_every_five_seconds_and_not_with_every_event(played: Played) -> None:
    played.tell(started())
    seen = []
    for second in range(1, 13):
        played.clock.forward(1)
        played.tell(Progressed(Tally(rows=second, accepted=second)))
        seen.append(played.value("rows_total", outcome="accepted"))
    assert seen == [0, 0, 0, 0, 5, 5, 5, 5, 5, 10, 10, 10]


def test_an_outage_shows_while_it_lasts(played: Played) -> None:
    played.tell(started())
    played.clock.forward(60)
    played.tell(Paused("503", 30.0, 60.0))
    assert played.value("outage_seconds") == 60
    played.clock.forward(30)
    played.tell(Recovered(90.0))
    assert played.value("outage_seconds") == 0


@pytest.mark.parametrize("status", ["stopped", "interrupted"])
def test_a_failed_run_never_hides_when_the_last_one_succeeded(played: Played, status: str) -> None:
    played.tell(started())
    played.tell(Ended(summary()))
    tonight = Played(played.path)
    tonight.clock.forward(86_400)
    tonight.tell(started())
    assert tonight.value("last_success_timestamp_seconds") == BEGAN.timestamp()
    tonight.tell(Ended(summary(status=status)))  # type: ignore[arg-type]
    assert tonight.value("last_success_timestamp_seconds") == BEGAN.timestamp()
    assert tonight.value("run_status", status=status) == 1
    assert tonight.value("run_status", status="finished") == 0


def test_a_run_that_ends_before_it_starts_keeps_the_last_success_too(played: Played) -> None:
    played.tell(Ended(summary()))
    Played(played.path).tell(Ended(summary(status="stopped")))
    assert played.value("last_success_timestamp_seconds") == BEGAN.timestamp()


@pytest.mark.parametrize(
    "before", ["", "not metrics \xff", 'propsync_last_success_timestamp_seconds{job="nightly"} x\n']
)
def test_no_success_is_made_up(played: Played, before: str) -> None:
    played.path.write_text(before, "latin-1")
    played.tell(started())
    assert played.value("last_success_timestamp_seconds") is None


def test_another_job_s_success_is_not_ours(played: Played) -> None:
    played.tell(started("other"))
    played.tell(Ended(summary("other")))
    Played(played.path).tell(started("nightly"))
    assert played.value("last_success_timestamp_seconds") is None


def test_a_place_that_cannot_be_written_is_found_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        MetricsListener(tmp_path / "missing" / "run.prom")


def test_a_full_disk_is_told_and_the_next_write_tried(played: Played) -> None:
    folder = played.path.parent / "gone"
    folder.mkdir()
    lost = Played(folder / "run.prom")
    folder.rmdir()
    with pytest.raises(StateError):
        lost.tell(started())
    folder.mkdir()
    lost.clock.forward(5)
    lost.tell(Progressed(TALLY))
    assert lost.value("rows_total", outcome="accepted") == 900_000


@settings(max_examples=examples(100, 6))
@given(st.text(), st.dictionaries(st.text(), st.integers(1, 10**15), max_size=3))
def test_any_name_arrives_as_it_is(job: str, codes: dict[str, int]) -> None:
    found = samples(
        metrics_text(MetricValues(Summary(job, Tally(), 0.0, 0, "finished", rejects_by_code=codes)))
    )
    assert {dict(labels)["job"] for _, labels in found} == {job}
    rejects = {
        dict(labels)["code"]: value
        for (name, labels), value in found.items()
        if name == "propsync_rejects_total"
    }
    assert rejects == codes


def test_how_the_last_run_ended_is_told_until_this_one_has(played: Played) -> None:
    played.tell(started())
    assert played.value("exit_code") is None
    assert played.value("last_run_timestamp_seconds") is None
    played.tell(Ended(summary(status="stopped", exit_code=5)))
    assert played.value("exit_code") == 5
    tonight = Played(played.path)
    tonight.clock.forward(86_400)
    tonight.tell(started())
    assert tonight.value("exit_code") == 5
    assert tonight.value("last_run_timestamp_seconds") == BEGAN.timestamp()
    tonight.tell(Ended(summary(exit_code=3)))
    assert tonight.value("exit_code") == 3
    assert tonight.value("last_run_timestamp_seconds") == BEGAN.timestamp() + 86_400


def test_the_version_is_told(played: Played) -> None:
    played.tell(started())
    assert 'propsync_build_info{job="nightly",version="' in played.path.read_text()


@settings(max_examples=examples(100))
@given(st.text(min_size=1).filter(str.isprintable))
def test_a_run_that_could_not_begin_keeps_the_success_of_any_job(job: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.prom"
        played = Played(path)
        played.tell(Ended(summary(job)))
        Played(path).tell(Ended(summary("another", status="stopped")))
        Played(path).tell(Ended(summary(job, status="stopped")))
        assert played.value("last_success_timestamp_seconds", job) == BEGAN.timestamp()


@pytest.mark.parametrize("value", ["nan", "+Inf", "five", ""])
def test_an_exit_code_that_is_none_is_not_carried_on(played: Played, value: str) -> None:
    played.path.write_text(f'propsync_exit_code{{job="nightly"}} {value}\n')
    played.tell(started())
    assert played.value("exit_code") is None
