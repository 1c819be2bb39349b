"""A run of wide rows stays within a limit of memory that the system enforces (`ulimit -v`)."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.commands import QUICK, Propsync
from tests.soak.proof import Proof

LIMIT = 800 << 20  # of address space: about 300 MB are in use, the rest is libraries and stacks of threads
ROWS = 60_000
SECONDS = 300.0


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 1.5 kB, no two texts of which are the same; `n` is not a number."""
    chance, letters = random.Random(1), [chr(0x4E00 + number) for number in range(20_000)]
    path: Path = tmp_path_factory.mktemp("wide") / "users.csv"
    with path.open("w") as file:
        file.write("id,n,note,more\n")
        for number in range(ROWS):
            note, more = ("".join(chance.choices(letters, k=250)) for _ in range(2))
            file.write(f"user-{number:07d},x,{note},{more}\n")
    return path


@pytest.mark.soak
@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("transport", ["batch", "identify"])
@pytest.mark.parametrize("rejected", [True, False])
def test_wide_rows_of_distinct_chinese_texts(
    propsync: Propsync,
    sandbox: Sandbox,
    proof: Proof,
    users: Path,
    rejected: bool,
    transport: str,
    processes: str,
) -> None:
    number = "{column: n, type: integer}" if rejected else "n"
    job = propsync.folder / "job.yml"
    job.write_text(
        f"source: {users}\ndestination: {{transport: {transport}}}\n"
        f"identification: {{user_id: id, user_properties: {{n: {number}, note: note, more: more}}}}\n"
    )
    options = ("--endpoint", sandbox.url, *QUICK, "--json", "--processes", processes)
    with propsync.begin("run", job, *options, before=_limit) as running:
        finished = running.wait(SECONDS)
    wanted = (3, ROWS, 0) if rejected else (0, 0, ROWS)
    summary = finished.summary if finished.out else {}
    found = (finished.code, summary.get("rejected"), summary.get("accepted"))
    proof.add(
        f"6 memory: wide rows within {LIMIT >> 20} MB of address space", 1, [str(found)] * (found != wanted)
    )
    assert found == wanted, finished.err


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
