from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from etl.listeners.summary import summary_dict, summary_text, time_spent
from etl.run_events import Summary, Timing
from etl.tally import Tally
from etl.text import columns
from tests.examples import each_row

from .events import HOSTILE, TIMING, summary

KEYS = "rows accepted unchanged merged rejected requests retries throttled bytes seconds resumed_rows status"


def test_the_keys_are_the_promised_ones_in_order() -> None:
    assert list(summary_dict(summary())) == [
        *(*KEYS.split(), "in_doubt", "uncounted", "job", "rejects_by_code"),
        *("exit_code", "reason", "hint", "skipped_values", "seconds_by", "answer_seconds", "time_spent"),
    ]


def test_the_data_says_what_was_counted() -> None:
    data = json.loads(json.dumps(summary_dict(summary(resumed_rows=7))))
    assert (
        data["rows"] == data["accepted"] + data["unchanged"] + data["merged"] + data["rejected"] == 1_000_000
    )
    assert data["bytes"] == 345_678_901
    assert data["seconds"] == 250.0
    assert data["resumed_rows"] == 7
    assert data["status"] == "finished"
    assert data["in_doubt"] == 2
    assert data["uncounted"] == 5
    assert data["rejects_by_code"] == {"bad_number": 800, "missing_id": 200}


def test_the_table_for_people() -> None:
    text = summary_text(summary(resumed_rows=500_000), width=80)
    assert text.splitlines() == [
        "nightly: finished, 1,000 rows rejected",
        "",
        "  rows            1,000,000",
        "    accepted        900,000   90.0 %",
        "    unchanged        60,000    6.0 %",
        "    merged           39,000    3.9 %",
        "    rejected          1,000    0.1 %",
        "      bad_number        800",
        "      missing_id        200",
        "",
        "  2,000 requests, 346 MB sent, 12 retries, 3 throttled, 4 min 10 s, 4,000 rows/s",
        "  500,000 of these rows had been committed by earlier runs.",
        "  2 answers left open whether the request was applied; it was sent again.",
        "  The server said it took 5 events that it did not count.",
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_asked_for(width: int) -> None:
    text = summary_text(summary(resumed_rows=10, status="interrupted"), width=width)
    assert max(columns(line) for line in text.split("\n")) <= width


@pytest.mark.parametrize("status", ["stopped", "interrupted"])
def test_an_unfinished_run_says_so_first(status: str) -> None:
    text = summary_text(summary(status=status), width=80)  # type: ignore[arg-type]
    assert status in text.splitlines()[0]


def test_a_good_day_is_short() -> None:
    text = summary_text(summary(tally=Tally(3, 3, requests=1, bytes=400), rejects_by_code={}), width=80)
    assert text.startswith("nightly: finished\n")
    for word in ("retries", "throttled", "earlier", "answers", "events"):
        assert word not in text


def test_an_empty_source_is_no_fault() -> None:
    assert "rows" in summary_text(summary(tally=Tally(), rejects_by_code={}), width=80)


def test_foreign_names_cannot_reach_the_terminal_raw() -> None:
    text = summary_text(summary(job=HOSTILE, rejects_by_code={HOSTILE: 1}), width=80)
    assert all(line.isprintable() for line in text.split("\n"))


def test_values_left_out_are_listed_by_column_and_reason() -> None:
    skipped = {"mrr": {"bad_number": 3, "not_finite": 1}, "since": {"bad_date": 1_200}}
    left_out = Summary("job", Tally(rows=5, accepted=5), 1.0, 0, "finished", skipped_values=skipped)
    assert summary_dict(left_out)["skipped_values"] == skipped
    lines = summary_text(left_out, width=80).splitlines()
    assert "    mrr: bad_number      3" in lines
    assert "    since: bad_date  1,200" in lines
    empty = summary_text(Summary("job", Tally(rows=5, accepted=5), 1.0, 0, "finished"), width=80)
    assert "left out" not in empty


def test_the_data_says_where_the_time_went() -> None:
    data = json.loads(json.dumps(summary_dict(replace(summary(), timing=TIMING))))
    numbers = {name: value for name, value in asdict(TIMING).items() if name != "latency"}
    assert data["answer_seconds"] == {"p50": 0.08, "p95": 0.2, "p99": 1.5}
    assert data["seconds_by"] == {name: value for name, value in numbers.items() if name != "slots"}
    unanswered = summary_dict(replace(summary(), timing=Timing(slots=8, idle=3.0)))
    assert unanswered["answer_seconds"] == {}
    never_sent = summary_dict(summary())
    assert (never_sent["answer_seconds"], never_sent["seconds_by"]) == ({}, {})


@each_row(
    ("timing", "sentence"),
    [
        (
            TIMING,
            "61 % waiting for the rate limit, 22 % for answers, 10 % for rows to send, "
            "4 % for the checkpoint, 3 % for earlier rows of the same users",
        ),
        (
            Timing(request=6, rate=2, pause=2, latency=(0.08, 0.2, 1.5)),
            "60 % waiting for answers (half within 80 ms, 99 % within 1.5 s), 20 % for the rate limit, "
            "20 % for pauses after a 429 or an outage",
        ),
        (Timing(request=1), "100 % waiting for answers"),
        (
            Timing(source=9, map=1, diff=2, encode=3, idle=7, request=3, latency=(1.0, 1.0, 1.0)),
            "70 % waiting for rows to send (mostly reading), 30 % for answers",
        ),
        (Timing(map=9, encode=3, idle=1), "100 % waiting for rows to send (mostly mapping)"),
        (
            Timing(diff=9, encode=3, idle=1),
            "100 % waiting for rows to send (mostly comparing with the snapshot)",
        ),
        (Timing(encode=3, idle=1), "100 % waiting for rows to send (mostly encoding)"),
        (Timing(idle=1), "100 % waiting for rows to send"),
        (Timing(commit=999, user=1), "100 % waiting for the checkpoint"),
        (Timing(source=5), None),
        (Timing(), None),
        (None, None),
    ],
)
def test_one_sentence_says_where_the_time_went(timing: Timing | None, sentence: str | None) -> None:
    assert time_spent(timing) == summary_dict(replace(summary(), timing=timing))["time_spent"] == sentence
    text = summary_text(replace(summary(), timing=timing), width=300)
    assert ("Time: " in text) == (sentence is not None)
    assert f"  Time: {sentence}." in text.splitlines() or sentence is None
