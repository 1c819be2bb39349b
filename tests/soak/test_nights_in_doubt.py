"""Law 7 of the nights: what Amplitude may not have is never taken for known, over long random histories."""

from __future__ import annotations

import random
import traceback

import pytest

from tests.pipeline.test_nights_in_doubt import CHANGES, KINDS, live
from tests.pipeline.unreliable_server import running_unreliable_server
from tests.soak.proof import Proof

CASES = 150


@pytest.mark.soak
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("changes", CHANGES)
def test_long_histories_of_doubt_end_right(changes: str, both: bool, proof: Proof) -> None:
    violations = []
    with running_unreliable_server() as server:
        for seed in range(CASES):
            chosen = random.Random(seed)
            kinds = [chosen.choice(["good", "bad", "baseline"])]
            kinds += chosen.choices(KINDS, k=chosen.randint(2, 6))
            transport = chosen.choice(["identify", "batch"])
            try:
                live(server, changes, both, [*kinds, "good"], seed, transport)
            except AssertionError:
                violations.append(f"{seed} {transport} {kinds}: {traceback.format_exc(limit=-2)}")
    proof.add("7 what may not be there is never taken for known", CASES, violations)
    assert not violations, violations[0]
