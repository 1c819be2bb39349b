"""The laws that need no killing, over many random cases in virtual time; memory, over millions of rows."""

from __future__ import annotations

import math
import multiprocessing
import random
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from bench import data
from etl import Job, run
from etl.amplitude.responses import SlowDown, TryAgain, Verdict
from etl.encoder import Limits
from etl.model import Chunk
from etl.sandbox import SandboxOptions, running_sandbox
from tests.encoder.builders import chunks_of, mapped_of, mapper_of, one_by_one, sent_by
from tests.encoder.test_merge import EVERYTHING, SCHEMA, WORDS_GIVEN, profiles_after
from tests.sender.failing_server import FailingServer, by_chance
from tests.sender.fake_server import Destination, carry_all, chunk_of
from tests.sender.test_chance_failures import LATENCY, share_of_throughput
from tests.sender.test_chance_failures import chunks_of as single_chunks
from tests.sender.virtual_time import run_virtual
from tests.soak.proof import Proof

KEY = "0123456789abcdef-secret"
_FORKS = multiprocessing.get_context("spawn")


def names(count: int) -> list[str]:
    return [f"user-{n:04d}" for n in range(count)]


def random_row(chance: random.Random) -> dict[str, object]:
    row: dict[str, object] = {
        field.name: chance.choice([None, *WORDS_GIVEN]) for field in SCHEMA if field.type == pa.string()
    }
    words = chance.sample(WORDS_GIVEN, chance.randrange(4))
    return row | {
        "id": f"user-{chance.randrange(4)}",
        "score": chance.choice([None, chance.randrange(10)]),
        "logins": chance.choice([None, chance.randrange(-5, 6)]),
        "words": chance.choice([None, words]),
    }


@pytest.mark.soak
def test_in_order_whatever_the_operators(proof: Proof) -> None:
    mapper, violations = mapper_of(EVERYTHING), []
    for seed in range(3000):
        chance = random.Random(seed)
        rows = [random_row(chance) for _ in range(chance.randrange(1, 40))]
        mapped = mapped_of(mapper, pa.Table.from_pylist(rows, schema=SCHEMA))
        chunks = chunks_of(mapped, Limits(identifications=chance.choice([1, 2, 3, 7, 50])))
        sent = [one for chunk in chunks for one in sent_by(chunk)]
        if profiles_after(sent) != profiles_after(one_by_one(mapped)):
            violations.append(f"seed {seed}")
    proof.add("3 in order: merged as the operators mean", 3000, violations)
    assert violations == []


@pytest.mark.soak
def test_never_two_requests_in_flight_for_one_user(proof: Proof) -> None:
    violations = []
    for seed in range(1000):
        chance = random.Random(seed)
        users = names(chance.randrange(2, 30))
        count = chance.randrange(1, 30)
        chunks, first = _chunks([chance.sample(users, chance.randrange(1, len(users))) for _ in range(count)])
        server = Destination(answer=_failing(chance), latency=chance.uniform(0.01, 2))
        journey = run_virtual(carry_all(chunks, server, slots=chance.randrange(1, 9)))
        if server.overlaps or journey.total.tally.accepted != first - 1:
            violations.append(f"seed {seed}")
    proof.add("3 in order: one request at a time for each user", 1000, violations)
    assert violations == []


def _failing(chance: random.Random) -> Callable[[list[str], float], Verdict | None]:
    share = chance.choice([0.0, 0.1, 0.4])

    def answer(users: list[str], now: float) -> Verdict | None:
        if chance.random() >= share:
            return None
        failures: list[Verdict] = [SlowDown(None, "slow"), TryAgain(True, "502"), TryAgain(False, "503")]
        return chance.choice(failures)

    return answer


@pytest.mark.soak
def test_one_bad_row_costs_one_row(proof: Proof) -> None:
    violations = []
    for seed in range(400):
        chance = random.Random(seed)
        users = names(chance.randrange(1, 1001))
        bad = sorted(chance.sample(range(len(users)), min(len(users), chance.choice([0, 1, 2, 5, 30]))))
        server = Destination(poison=frozenset(users[n] for n in bad))
        journey = run_virtual(carry_all([chunk_of(users)], server))
        most = 2 * len(bad) * (math.log2(len(users) / len(bad)) + 2) if bad else 0
        found = [reject.row - 1 for reject in journey.rejects]
        if found != bad or len(server.accepted) != len(users) - len(bad) or len(server.requests) - 1 > most:
            violations.append(f"seed {seed}")
    proof.add("4 one bad row costs one row, in few requests", 400, violations)
    assert violations == []


@pytest.mark.soak
def test_one_hot_user_holds_up_only_its_own_rows(proof: Proof) -> None:
    violations = []
    for seed in range(200):
        chance = random.Random(seed)
        users = names(chance.choice([200, 1000, 3000]))
        share = chance.choice([1, 5, 50])
        for at in chance.sample(range(len(users)), max(1, len(users) * share // 1000)):
            users[at] = "hot-user"
        parts = _parts(users, chance.choice([10, 50, 100]))
        chunks, first = _chunks(parts)
        calm = run_virtual(carry_all(chunks, Destination()))
        server = Destination(answer=_hot)
        journey = run_virtual(carry_all(chunks, server))
        others = max(time for user, time in server.times.items() if user != "hot-user")
        # At most three pauses of 15 s x 1.25, and a few more requests.
        if others > calm.seconds + 60 or journey.total.tally.accepted != first - 1 or server.overlaps:
            violations.append(f"seed {seed}: {others:.0f} s, calm {calm.seconds:.0f} s")
    proof.add("5 one hot user holds up only its own rows", 200, violations)
    assert violations == []


@pytest.mark.soak
def test_all_rows_of_a_user_throttled_for_good_end_together(proof: Proof) -> None:
    violations = []
    for seed in range(200):
        chance = random.Random(seed)
        users = names(chance.choice([200, 1000, 3000]))
        for at in chance.sample(range(20, len(users)), max(2, len(users) * chance.choice([5, 50]) // 1000)):
            users[at] = "hot-user"
        parts = _parts(users, chance.choice([10, 50, 100]))
        chunks, first = _chunks(parts)
        server = Destination(hot=frozenset(["hot-user"]))
        journey = run_virtual(carry_all(chunks, server, outage=600))
        hot = sum(part.count("hot-user") for part in parts)
        tries = sum("hot-user" in some for _, some in server.requests)
        found = journey.total.tally
        if (found.accepted, found.rejected) != (first - 1 - hot, hot) or tries > 100 or journey.seconds > 840:
            violations.append(f"seed {seed}: {found}, {tries} tries, {journey.seconds:.0f} s")
    proof.add("5 all rows of a user throttled for good end together", 200, violations)
    assert violations == []


@pytest.mark.soak
def test_a_share_of_failures_costs_that_share(proof: Proof) -> None:
    violations = []
    for seed in range(60):
        chance = random.Random(seed)
        share, slots = chance.uniform(0.1, 0.9), chance.choice([1, 2, 8, 16, 64])
        failing = chance.choice([0.001, 0.05, LATENCY, 10 * LATENCY])
        count = slots * chance.randint(25, 40) + 100
        server = FailingServer(by_chance(share, seed), latency=LATENCY, failing=failing)
        journey = run_virtual(carry_all(single_chunks(count), server, slots=slots, outage=1800))
        got = share_of_throughput(server, journey, count, slots, share)
        if journey.total.tally.accepted != count or got < 0.6:
            violations.append(f"seed {seed}: share {share:.2f}, {slots} slots, {failing} s: {got:.2f}")
    proof.add("5 a share of failures costs that share, and never the run", 60, violations)
    assert violations == []


def _parts(users: list[str], size: int) -> list[list[str]]:
    """So many rows each, in which every user comes once."""
    return [list(dict.fromkeys(users[at : at + size])) for at in range(0, len(users), size)]


def _chunks(parts: list[list[str]]) -> tuple[list[Chunk], int]:
    """A chunk for each part, and the number of the row behind the last."""
    chunks, first = [], 1
    for part in parts:
        chunks.append(chunk_of(part, first))
        first += len(part)
    return chunks, first


def _hot(users: list[str], now: float) -> Verdict | None:
    return SlowDown(None, "one user is throttled") if "hot-user" in users and now < 900 else None


def _measure(rows: int, folder: str, url: str, answers: object) -> None:
    path = Path(folder) / f"{rows}.parquet"
    data.write(path, rows)
    job = Job.of({**data.job("plain", "parquet"), "source": str(path)}, folder=folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(
        job,
        key=KEY,
        endpoint=url,
        rate=None,
        requests_per_second=None,
        state_dir=Path(folder) / str(rows),
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answers.put((before, after))  # type: ignore[attr-defined]


@pytest.mark.soak
def test_memory_does_not_grow_with_rows(tmp_path: Path, proof: Proof) -> None:
    peaks = {}
    with running_sandbox(SandboxOptions(sink=True)) as sandbox:
        for rows in (300_000, 3_000_000):
            answers = _FORKS.SimpleQueue()
            process = _FORKS.Process(target=_measure, args=(rows, str(tmp_path), sandbox.url, answers))
            process.start()
            process.join()
            peaks[rows] = answers.get()[1] / 1024
    grown = peaks[3_000_000] / peaks[300_000]
    violations = [] if grown < 1.1 else [f"{peaks} MB"]
    small, large = peaks.values()
    proof.add(f"6 memory: {small:.0f} MB for 300,000 rows, {large:.0f} MB for 3,000,000", 2, violations)
    assert violations == []
