"""A job with a transform that is interrupted again and again sends the same requests as one that is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from etl.sandbox import running_sandbox
from tests.pipeline.making import sent_bodies
from tests.pipeline.nights import KilledError, killed, quiet
from tests.pipeline.test_transform_frames import RECORD, expected, send, source
from tests.soak.proof import Proof

__all__ = ["expected", "source"]


@pytest.mark.soak
def test_many_interruptions_change_no_request(
    tmp_path: Path,
    source: Path,
    expected: set[str],
    proof: Proof,
) -> None:
    violations = []
    for seed in range(10):
        chance, folder, kills = random.Random(seed), tmp_path / str(seed), 0
        folder.mkdir()
        with running_sandbox(RECORD) as sandbox:
            for _ in range(chance.randint(1, 6)):
                kills += 1
                with killed("committed", chance.randrange(1, 4)) as listener, pytest.raises(KilledError):
                    send(folder, sandbox, source, listener=listener, concurrency=chance.choice([1, 2, 4]))
                quiet(sandbox)
            send(folder, sandbox, source)
            if set(sent_bodies(sandbox)) != expected:
                violations.append(f"seed {seed}, {kills} kills")
    proof.add(f"1 a transform sees the same frames after each resume: {source.suffix}", 10, violations)
    assert violations == []
