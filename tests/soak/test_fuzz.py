"""Rubbish of every kind ends in a message or a verdict."""

from __future__ import annotations

import pytest

from tests.soak.fuzzing import fuzz
from tests.soak.proof import Proof
from tests.soak.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_rubbish_leaves_no_trace(target: str) -> None:
    cases, faults = fuzz(target, seconds=0.2, seed=1, least=4)
    assert faults == []
    assert cases >= 4


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_rubbish_for_two_minutes_leaves_no_trace(target: str, proof: Proof) -> None:
    cases, faults = fuzz(target, seconds=120, seed=1_000_000)
    proof.add(f"no trace, no hang, no crash: {target}", cases, faults)
    assert faults == []
