"""Options as they are written and changed, and the faults that a seed draws."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sandbox import (
    FaultRule,
    Sandbox,
    SandboxError,
    SandboxOptions,
    make_options,
    parse_fault,
    parse_latency,
)
from etl.sandbox.sandbox_options import FAULT_KINDS, FaultInjector, InjectedFault
from tests.examples import each_row

from .client import HandClock

if TYPE_CHECKING:
    import random

DIGESTS = [sha256(str(n).encode()).digest() for n in range(2000)]
CHANGES: dict[str, object] = {
    "faults": ["503:0.5", "reset-after:0.1"],
    "latency": "80ms",
    "hot_users": ["user-1"],
    "hot_tries": 2,
    "requests_per_second": 5,
    "identifications_per_second": None,
    "poison_status": 403,
    "quota_users": ["user-2"],
    "silenced_users": ["user-3"],
    "offenders": "first",
    "ingested": "new",
    "max_events": 10,
    "sink": True,
}


@pytest.mark.parametrize(("text", "seconds"), [("80ms", 0.08), ("1.5s", 1.5), ("0s", 0.0)])
def test_a_latency_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert parse_latency(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["80", "ms", "-1s", "1h"])
def test_a_latency_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(SandboxError, match="not a latency"):
        parse_latency(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000},
        {"poison_status": 500},
        {"max_bytes": 0},
        {"max_events": 0},
        {"max_batch_bytes": -1},
        {"offenders": "last"},
        {"ingested": ""},
        {"latency": -1.0},
        {"requests_per_second": 0.0},
        {"user_updates_per_hour": -3},
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_with_a_remedy(wrong: dict[str, Any]) -> None:
    with pytest.raises(SandboxError) as caught:
        make_options(wrong)
    assert caught.value.hint


def test_options_change_by_what_json_can_say() -> None:
    changed = SandboxOptions().changed(CHANGES)
    assert changed.faults == (parse_fault("503:0.5"), parse_fault("reset-after:0.1"))
    assert (changed.latency, changed.hot_users, changed.hot_tries) == (0.08, frozenset({"user-1"}), 2)


def test_options_shown_can_be_given_back() -> None:
    changed = SandboxOptions().changed(CHANGES)
    assert SandboxOptions().changed(json.loads(json.dumps(changed.as_json()))) == changed


def test_keys_are_never_shown() -> None:
    options = SandboxOptions(api_keys=frozenset({"hush"}), secret_keys=frozenset({"hush"}))
    assert "hush" not in json.dumps(options.as_json())


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 1},
        {"api_keys": []},
        {"latensy": 1},
        {"latency": "soon"},
        {"latency": True},
        {"sink": 1},
        {"hot_users": "a"},
        {"hot_tries": True},
        {"faults": "503:1"},
        {"faults": [503]},
        {"max_bytes": 1.5},
        {"offenders": 1},
        {"offenders": "last"},
        {"quota_users": "a"},
    ],
    ids=str,
)
def test_a_wrong_change_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SandboxError):
        SandboxOptions().changed(wrong)


# --- faults ----------------------------------------------------------------------------------------------


@each_row(
    ("text", "rule"),
    [
        ("503:0.05", FaultRule("503", "before", 0.05)),
        ("503:5%", FaultRule("503", "before", 0.05)),
        ("502:1", FaultRule("502", "either", 1.0)),
        ("502-after:0.5", FaultRule("502", "after", 0.5)),
        ("reset:0.1", FaultRule("reset", "either", 0.1)),
        ("reset-before:0.1", FaultRule("reset", "before", 0.1)),
        ("truncate:0", FaultRule("truncate", "after", 0.0)),
    ],
)
def test_a_fault_reads_as_it_is_written(text: str, rule: FaultRule) -> None:
    assert parse_fault(text) == rule
    assert parse_fault(str(rule)) == rule


@each_row("text", ["", "503", "503:", "503:2", "503:-1", "503:nan", "200:0.1", "600:1", "explode:1"])
def test_a_wrong_fault_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(SandboxError) as caught:
        parse_fault(text)
    assert caught.value.hint


def test_a_share_above_the_whole_is_told_as_one() -> None:
    with pytest.raises(SandboxError, match='fault "503:200%" has a share above 1, which is 100%'):
        parse_fault("503:200%")


def test_shares_above_the_whole_are_refused() -> None:
    with pytest.raises(SandboxError, match=r"1\.1"):
        make_options({"faults": ["503:0.6", "reset:0.5"]})


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_order_of_requests_never_changes_their_faults(seed: int, shuffler: random.Random) -> None:
    rules = (parse_fault("503:0.3"), parse_fault("502:0.3"))
    tries = [digest for digest in DIGESTS[:20] for _ in range(3)]
    shuffled = shuffler.sample(tries, len(tries))
    drawn, redrawn = FaultInjector(rules, seed), FaultInjector(rules, seed)
    first = sorted((digest, str(drawn.draw(digest))) for digest in tries)
    assert sorted((digest, str(redrawn.draw(digest))) for digest in shuffled) == first


def test_another_seed_draws_other_faults() -> None:
    rules = (parse_fault("503:0.5"),)
    one, other = ([FaultInjector(rules, seed).draw(digest) for digest in DIGESTS[:64]] for seed in (1, 2))
    assert one != other


def test_a_request_tried_again_gets_through_in_the_end() -> None:
    injector = FaultInjector((parse_fault("503:0.9"),), 0)
    assert None in [injector.draw(DIGESTS[0]) for _ in range(200)]


def test_shares_come_out_as_asked_and_open_faults_strike_both_ways() -> None:
    injector = FaultInjector((parse_fault("503:0.25"), parse_fault("502:0.5")), 7)
    drawn = [injector.draw(digest) for digest in DIGESTS]
    assert drawn.count(InjectedFault("503", applied=False)) == pytest.approx(500, abs=90)
    assert drawn.count(InjectedFault("502", applied=False)) == pytest.approx(500, abs=90)
    assert drawn.count(InjectedFault("502", applied=True)) == pytest.approx(500, abs=90)
    assert drawn.count(None) == pytest.approx(500, abs=90)


@each_row("kind", [*FAULT_KINDS, "500", "503"])
@each_row("moment", ["before", "after"])
def test_a_moment_that_was_asked_for_always_comes(kind: str, moment: str) -> None:
    injector = FaultInjector((parse_fault(f"{kind}-{moment}:1"),), 0)
    assert {injector.draw(digest) for digest in DIGESTS[:50]} == {InjectedFault(kind, moment == "after")}


def test_an_outage_ends_after_its_seconds_or_when_told() -> None:
    clock = HandClock()
    sandbox = Sandbox(clock=clock)
    sandbox.begin_outage("503", seconds=5.0)
    clock.now += 4.9
    assert sandbox.outage == InjectedFault("503", applied=False)
    clock.now += 0.1
    assert sandbox.outage is None
    sandbox.begin_outage("reset-after")
    clock.now += 1e9
    assert sandbox.outage == InjectedFault("reset", applied=True)
    sandbox.end_outage()
    assert sandbox.outage is None
