"""`import propsync` works where the user's project has an `etl` of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import etl
import propsync

if TYPE_CHECKING:
    from pathlib import Path

    from etl.sandbox import Sandbox

_SCRIPT = """
import sys
from pathlib import Path

import propsync

job = propsync.Job.of({"identification": {"user_id": "id", "user_properties": {"plan": "plan"}}}, folder=".")
summary = propsync.run(job, "users.csv", key="any-key", endpoint=sys.argv[1], rate=None, processes=2)
assert isinstance(summary, propsync.Summary), type(summary)
try:
    propsync.run(job, "no-such-file.csv", key="any-key", endpoint=sys.argv[1])
except propsync.EtlError as error:
    assert int(error.exit_code) == 7
assert "etl" not in sys.modules
print(summary.tally.accepted, propsync.__version__)
"""


def test_both_names_export_the_same() -> None:
    assert sorted(propsync.__all__) == sorted(etl.__all__)
    assert {name for name in propsync.__all__ if not hasattr(propsync, name)} == set()


def test_a_project_with_an_etl_of_its_own_uses_propsync(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "etl").mkdir()
    (tmp_path / "etl" / "__init__.py").write_text(
        "raise AssertionError('the project\\'s own etl was imported')\n"
    )
    (tmp_path / "users.csv").write_text("id,plan\nuser-1,pro\nuser-2,free\n")
    command = [sys.executable, "-c", _SCRIPT, sandbox.url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"2 {etl.__version__}\n"), done.stderr
    assert sandbox.stats.identifications == 2


def test_both_names_in_one_program_read_bytes_that_are_not_text() -> None:
    from propsync.reader import decoding as other  # type: ignore[import-not-found]

    from etl.reader import decoding as one

    for module in (one, other):
        assert module.mark_bad_bytes(b"a\xff") == b"a" + module.MARK_BYTES + b"\\xff"
