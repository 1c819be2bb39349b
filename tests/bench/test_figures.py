"""The figures are worked out from what was seen as they are said to be."""

from __future__ import annotations

import json
import sys

import pytest

from bench.children import BenchError, ran, told
from bench.limits import Request, burst, control, rates, requests
from bench.sink import Counts, counts


def evenly(per_second: int, size: int, seconds: int) -> list[Request]:
    return [Request(n / per_second, size, admitted=True) for n in range(per_second * seconds)]


def test_a_log_is_counted() -> None:
    log = "200 1000\n200 500\n413 20\n"
    assert counts(log) == Counts(requests=3, fine=2, bytes=1520)
    assert counts("") == Counts()
    assert counts(log) - Counts(1, 1, 1000) == Counts(2, 1, 520)


def test_a_journal_is_read_in_the_order_of_coming() -> None:
    lines = [
        {"received": 12.5, "identifications": 10, "status": 429},
        {"received": 12.0, "identifications": 20, "status": 200},
        {"received": 13.0, "identifications": 30, "status": None},
    ]
    assert requests("\n".join(map(json.dumps, lines))) == [
        Request(0.0, 20, admitted=True),
        Request(0.5, 10, admitted=False),
        Request(1.0, 30, admitted=False),
    ]
    assert requests("") == []


def test_only_the_seconds_asked_for_are_judged() -> None:
    met = [
        Request(0.0, 100, admitted=False),
        Request(1.0, 60, admitted=True),
        Request(1.5, 40, admitted=False),
        Request(2.0, 30, admitted=True),
        Request(3.0, 500, admitted=True),
    ]
    judged = control(met, 50, since=1, until=3)
    assert judged.admitted_share == pytest.approx(0.9)
    assert judged.refused_share == pytest.approx(1 / 3)


def test_an_even_pace_has_one_rate_whatever_the_windows_just_miss() -> None:
    assert rates(evenly(7, 100, 30), 10.0) == pytest.approx([700.0] * (7 * 30 - 70))


def test_a_gap_and_a_burst_are_seen() -> None:
    gap = [one for one in evenly(10, 1, 30) if not 12 <= one.at < 14]
    assert min(rates(gap, 10.0)) == pytest.approx(8.0)
    assert burst(evenly(8, 1, 5)) == 8
    assert burst([*evenly(8, 1, 5), Request(4.9, 7, admitted=True)]) == 15


def test_what_a_program_tells_is_in_its_last_line() -> None:
    assert told('some words\n{"seconds": 1.5}\n') == {"seconds": 1.5}
    assert told("some words") == told("[1]") == told("") == {}


def test_a_child_is_measured_by_itself() -> None:
    code = "import json, time; held = bytearray(300_000_000); time.sleep(0.1); print(json.dumps({'rows': 3}))"
    took = ran([sys.executable, "-c", code])
    assert took.told == {"rows": 3}
    assert took.wall >= 0.1
    assert took.megabytes > 280


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "import time; time.sleep(30)"])
def test_a_child_that_fails_or_hangs_has_no_figures(code: str) -> None:
    with pytest.raises(BenchError):
        ran([sys.executable, "-c", code], longest=1.0)
