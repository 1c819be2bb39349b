"""Nights that go wrong in any way and any order: the last export arrives, and nobody is sent in vain."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from etl.errors import EtlError, StaleCheckpointError
from etl.job.spec import Job
from etl.pipeline.settings import RejectLimit
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.examples import examples
from tests.pipeline.making import KEY
from tests.pipeline.nights import KilledError, Row, held, job_in, killed, night, quiet, users
from tests.pipeline.test_failed_nights import dying_after, dying_at
from tests.pipeline.test_second_night import MEMORY

USERS, BATCH, LANES = 40, 4, 2
FATES = (
    *("well", "well"),
    *("wrong key", "away", "lost answers", "refused rows", "elsewhere", "elsewhere killed"),
    *("killed 1", "killed 3", "killed 7", "keep", "kept", "created", "begin", "renewing", "renewed", "told"),
)


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Sandbox, Sandbox]]:
    """The job's own destination, which takes one key only, and another one."""
    with (
        running_sandbox(SandboxOptions(api_keys=frozenset([KEY]))) as own,
        running_sandbox() as other,
    ):
        yield own, other


@dataclass
class History:
    """What the destination holds after some nights, and how many users may be in doubt."""

    job: Job
    own: Sandbox
    other: Sandbox
    values: dict[str, Row] = field(default_factory=dict)
    doubted: int = 0

    def run(self, fate: str, export: list[Row]) -> None:
        """Let a night come to its fate, and look at who was sent what."""
        self.own.reset()
        with suppress(EtlError, KilledError):
            self._run(fate, export)
        quiet(self.own)
        wanted = {row["id"]: {"plan": row["plan"], "score": row["score"]} for row in export}
        got = held(self.own)
        in_vain = [name for name in got if self.values.get(name) == wanted[name]]
        assert len(in_vain) <= self.doubted, (fate, in_vain)
        for name, row in got.items():
            self.values[name] = {**self.values.get(name, {}), **row}
        if fate == "well":
            assert self.values == {**self.values, **wanted}
            self.doubted = 0
        elif fate not in {"wrong key", "away", "elsewhere"}:
            self.doubted += BATCH * LANES

    def _run(self, fate: str, export: list[Row]) -> None:
        how: dict[str, Any] = {"batch_size": BATCH, "concurrency": LANES, "max_outage": 0.02}
        kind, _, number = fate.partition(" ")
        if kind == "killed":
            with dying_after(int(number)):
                night(self.job, self.own, export, **how)
        elif kind in {"keep", "kept", "created", "begin"}:
            with dying_at(kind):
                night(self.job, self.own, export, **how)
        elif kind in {"renewing", "renewed", "told"}:
            with killed(kind, 2 if kind == "told" else 1) as listener:
                night(self.job, self.own, export, listener=listener, **how)
        elif kind == "wrong":
            with patch("tests.pipeline.nights.KEY", "another"):
                night(self.job, self.own, export, **how)
        elif fate == "elsewhere killed":
            with dying_after(3):
                night(self.job, self.other, export, **how)
        elif kind == "elsewhere":
            night(self.job, self.other, export, **how)
        else:
            self._at_a_bad_server(fate, export, how)

    def _at_a_bad_server(self, fate: str, export: list[Row], how: dict[str, Any]) -> None:
        changes: dict[str, Any] = {"lost answers": {"faults": ["500-after:0.5"]}}.get(fate, {})
        if fate == "refused rows":
            changes = {"poison_users": [export[-1]["id"]]}
            how["max_rejects"] = RejectLimit(count=0)
        self.own.change(**changes)
        if fate == "away":
            self.own.begin_outage("503")
        try:
            # What a run has rejected stays rejected when it is resumed; the night after tries it again.
            if night(self.job, self.own, export, **how).tally.rejected:
                night(self.job, self.own, export, **how)
        finally:
            self.own.end_outage()
            self.own.change(faults=[], poison_users=[])


def export_of(chance: random.Random) -> list[Row]:
    """Everybody, with one of three plans; most as on other nights."""
    plain = users(range(USERS))
    for row in chance.sample(plain, chance.choice([0, 3, 20, USERS])):
        row["plan"] = chance.choice("abc")
    return plain


def live_through(folder: Path, own: Sandbox, other: Sandbox, fates: list[str], seed: int) -> None:
    chance = random.Random(seed)
    for sandbox in (own, other):
        sandbox.reset()
    history = History(job_in(folder / "job"), own, other)
    export = export_of(chance)
    for fate in [*fates, "well"]:
        if chance.random() < 0.7:
            export = export_of(chance)
        history.run(fate, export)
    # What is known by now is known.
    own.reset()
    assert night(history.job, own, export).tally.accepted == 0


@settings(
    max_examples=examples(12, 3),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(fates=st.lists(st.sampled_from(FATES), min_size=2, max_size=6), seed=st.integers(0, 10**6))
def test_whatever_became_of_the_nights_the_last_one_arrives(
    places: tuple[Sandbox, Sandbox], fates: list[str], seed: int
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        live_through(Path(folder), *places, fates, seed)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_is_given_up_by_hand_ends_the_same(
    places: tuple[Sandbox, Sandbox], tmp_path: Path, seed: int
) -> None:
    """`stop` asks, `--restart` answers; neither loses anything."""
    chance = random.Random(seed)
    own, _ = places
    own.reset()
    history = History(job_in(tmp_path / "job"), *places)
    for fate, plan in (("well", "a"), ("killed 3", "b")):
        history.run(fate, users(range(USERS), plan=plan))
    export = export_of(chance)
    with pytest.raises(StaleCheckpointError):
        night(history.job, own, export, batch_size=BATCH, on_source_change="stop")
    night(history.job, own, export, batch_size=BATCH, restart=True)
    for name, row in held(own).items():
        history.values[name] = {**history.values[name], **row}
    assert history.values == {row["id"]: {"plan": row["plan"], "score": row["score"]} for row in export}
