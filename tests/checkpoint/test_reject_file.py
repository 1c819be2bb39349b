"""rejects.ndjson is whole, and holds each row as it stood."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etl.checkpoint import StateDir, publish_rejects, reject_lines
from etl.model import Reject
from tests.checkpoint.builders import reject


def test_a_line_has_the_six_keys_and_the_row_as_it_stood(tmp_path: Path) -> None:
    values = '{"id":"","note":"line\\u2028 \\"quoted\\"","n":1.50}'
    publish_rejects(tmp_path / "rejects.ndjson", [reject(7, values=values)], run=3)
    [line] = (tmp_path / "rejects.ndjson").read_text().split("\n")[:-1]
    assert list(json.loads(line)) == ["source", "row", "code", "reason", "values", "run"]
    assert line.endswith(f'"values":{values},"run":3}}')


def test_the_origin_of_a_row_that_was_rejected_before_is_in_its_line() -> None:
    (line,) = reject_lines([replace(reject(7), origin="users.csv:3")], run=3)
    assert json.loads(line)["origin"] == "users.csv:3"


def test_none_make_an_empty_file(tmp_path: Path) -> None:
    publish_rejects(tmp_path / "rejects.ndjson", [], run=3)
    assert (tmp_path / "rejects.ndjson").read_bytes() == b""


def test_a_failure_half_way_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "rejects.ndjson"
    publish_rejects(path, [reject(1)], run=3)
    before = path.read_bytes()

    def breaking() -> Iterator[Reject]:
        yield reject(1)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        publish_rejects(path, breaking(), run=3)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    publish_rejects(tmp_path / "rejects.ndjson", [reject(1)], run=3)
    assert stat.S_IMODE((tmp_path / "rejects.ndjson").stat().st_mode) == 0o600


KILLED = """
import os, signal, sys
from pathlib import Path
from etl.checkpoint import publish_rejects
from etl.model import Reject
def rejects():
    yield Reject("users.csv", 1, "bad_number", "", '{"mail":"ada@example.com"}')
    os.kill(os.getpid(), signal.SIGKILL)
publish_rejects(Path(sys.argv[1]), rejects(), run=1)
"""


def test_a_kill_leaves_one_unfinished_file_and_the_next_run_removes_it(tmp_path: Path) -> None:
    folder = StateDir(tmp_path)
    (tmp_path / "rejects.ndjson.new").write_text("what an earlier kill left")
    subprocess.run([sys.executable, "-c", KILLED, str(folder.rejects)], check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["rejects.ndjson.new"]
    with folder.hold():
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    for name in ("rejects.ndjson", "rejects.ndjson.new"):
        (tmp_path / name).symlink_to(precious)
    publish_rejects(tmp_path / "rejects.ndjson", [reject(1)], run=3)
    assert precious.read_text() == "keep me"
    assert not (tmp_path / "rejects.ndjson").is_symlink()
