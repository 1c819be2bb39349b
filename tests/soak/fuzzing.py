"""Mutated input for a while, in a process of its own: no trace, no hang, no death by signal."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from etl.errors import EtlError
from tests.forking import forks

SAMPLES = Path(__file__).parents[2] / "sample_data"
# The longest that one case may take, in seconds; far more than any did.
PATIENCE = 60.0

Case = Callable[[random.Random, Path], None]


def mutate(chance: random.Random, content: bytes) -> bytes:
    """A few edits: flipped, cut, doubled, swapped or foreign bytes."""
    found = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 3, 8, 40])):
        at = chance.randrange(len(found) + 1)
        size = min(chance.choice([1, 2, 4, 16, 200]), len(found) - at)
        match chance.randrange(20):
            case 0:
                del found[at:]
            case 1 | 2 | 3 | 4:
                del found[at : at + size]
            case 5 | 6 | 7 | 8:
                found[at:at] = found[at : at + size]
            case 9 | 10 | 11 | 12:
                found[at:at] = chance.choice(_FOREIGN)
            case _:
                found[at : at + size] = chance.randbytes(size)
    return bytes(found)


_FOREIGN = [
    *(b'"', b"\n", b"\r", b"\0", b",", b";", b"{", b"}", b"[", b"\t", b": ", b"- ", b"&a", b"*a"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x82", b"\xff\xff\xff\x7f"),
    *(b"null", b"NaN", b"1e999", b"9" * 400, b"a" * 5000, b"!!python/object:os.system"),
    *(b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"Content-Length: -1\r\n"),
]


def fuzz(target: str, *, seconds: float, seed: int, least: int = 1) -> tuple[int, list[str]]:
    """Try cases of a target until the time is over, but `least`; how many, and what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        process = forks().Process(target=_try_cases, args=(target, seconds, seed, least, Path(folder)))
        process.start()
        process.join(seconds + PATIENCE)
        hung = process.is_alive()
        if hung:
            process.kill()
            process.join()
        log = Path(folder) / "log"
        lines = log.read_text().splitlines() if log.exists() else []
    faults = [line for line in lines if not line.startswith("case ")]
    cases = sum(line.startswith("case ") for line in lines)
    if hung:
        faults.append(f"{target}: {lines[-1:]} hung")
    elif process.exitcode:
        faults.append(f"{target}: {lines[-1:]} ended the process with {process.exitcode}")
    return cases, faults


def _try_cases(target: str, seconds: float, seed: int, least: int, folder: Path) -> None:
    from tests.soak.targets import TARGETS

    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for as long as the process lives
    case, end, enough = TARGETS[target], time.monotonic() + seconds, seed + least
    with (folder / "log").open("a", buffering=1) as log:
        while time.monotonic() < end or seed < enough:
            log.write(f"case {seed}\n")
            try:
                case(random.Random(seed), folder)
            except EtlError:
                pass
            except BaseException:  # noqa: BLE001 - whatever else comes out is a fault
                log.write(f"{target} {seed}: {traceback.format_exc().strip()!r}\n")
            seed += 1
