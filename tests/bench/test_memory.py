"""What processes hold together is counted once, whoever else runs on the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.children import Ran, held
from bench.contenders import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what processes share")

FORKING = """
import os, time
shared = b"x" * 120_000_000
child = os.fork()
own = None if child else b"y" * 80_000_000
time.sleep(1.3)
if child:
    os.waitpid(child, 0)
"""


MEASURING = """
import json, sys
from dataclasses import asdict
from bench.children import ran
print(json.dumps(asdict(ran([sys.executable, "-c", sys.argv[1]]))))
"""


def measured(program: str) -> Ran:
    """Measure a program from a small process: a child begins with the memory of whoever starts it."""
    took = subprocess.run(
        [sys.executable, "-c", MEASURING, program], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    return Ran(**json.loads(took.stdout))


@linux
def test_what_a_child_has_from_its_parent_counts_once() -> None:
    took = measured(FORKING)
    assert 190 < took.together < 250
    assert took.megabytes > 190


def test_all_together_are_never_less_than_the_largest() -> None:
    took = measured("b'x' * 100_000_000")
    assert took.together >= took.megabytes > 90


@linux
def test_a_process_holds_what_it_writes() -> None:
    before = held([os.getpid()])
    more = b"x" * 60_000_000
    assert held([os.getpid()]) - before == pytest.approx(len(more) / 2**20, abs=8)


def test_mapped_files_are_those_of_the_one_with_most(tmp_path: Path) -> None:
    for pid, own, files in ((1, 1024, 3072), (2, 2048, 5120)):
        process = tmp_path / str(pid)
        process.mkdir()
        (process / "smaps_rollup").write_text(f"Rss: 99999 kB\nPss: 99 kB\nPss_Anon: {own} kB\n")
        (process / "status").write_text(f"VmHWM: 8888 kB\nRssFile: {files} kB\n")
    assert held([1, 2], tmp_path) == 1 + 2 + 5


def test_where_nobody_tells_what_is_shared_the_peaks_are_added(tmp_path: Path) -> None:
    for pid, peak in ((1, 2048), (2, 3072)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "status").write_text(f"VmHWM: {peak} kB\nRssFile: 1 kB\n")
    assert held([1, 2], tmp_path) == 5
