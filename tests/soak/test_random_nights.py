"""Many more nights that go wrong, in any order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.pipeline.making import KEY
from tests.pipeline.test_random_nights import FATES, live_through
from tests.soak.proof import Proof

LAW = "a failed night is not an obstacle: any fate, any order, the last export arrives"


@pytest.fixture
def places() -> Iterator[tuple[Sandbox, Sandbox]]:
    with running_sandbox(SandboxOptions(api_keys=frozenset([KEY]))) as own, running_sandbox() as other:
        yield own, other


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_a_long_series_of_bad_nights(
    tmp_path: Path, places: tuple[Sandbox, Sandbox], proof: Proof, seed: int
) -> None:
    chance, violations = random.Random(seed), []
    for round_number in range(40):
        fates = chance.choices(FATES, k=chance.randrange(1, 9))
        folder = tmp_path / str(round_number)
        folder.mkdir()
        try:
            live_through(folder, *places, fates, seed * 1000 + round_number)
        except AssertionError as error:
            violations.append(f"{fates}: {error}")
    proof.add(LAW, 40, violations)
    assert violations == []
