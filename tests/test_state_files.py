from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from etl.errors import ExitCode, StateError, UsageError
from etl.state_files import check_writable, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.html")
    assert list(tmp_path.iterdir()) == []


def test_a_check_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    old = tmp_path / "old.html"
    old.write_text("old")
    check_writable(old)
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("name", ["missing/run.html", "file/run.html"])
def test_2_for_a_folder_that_there_is_not(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file is not a folder")
    with pytest.raises(UsageError, match="there is no folder") as raised:
        check_writable(tmp_path / name)
    assert raised.value.exit_code == ExitCode.USAGE


def test_drafts_of_processes_that_are_gone_are_removed_and_no_others(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    kept = [f".run.prom.{os.getppid()}.tmp", ".run.prom.x.tmp", f".other.prom.{gone.pid}.tmp", "run.prom"]
    for name in (*kept, f".run.prom.{gone.pid}.tmp"):
        (tmp_path / name).touch()
    check_writable(tmp_path / "run.prom")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("name", ["folder", "x" * 300])
def test_what_cannot_be_written_is_found_before_the_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StateError) as raised:
        check_writable(tmp_path / name)
    assert raised.value.exit_code == ExitCode.STATE
    assert name in raised.value.message
    assert raised.value.hint


def test_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StateError):
        check_writable(tmp_path / "pipe")


def test_whoever_may_read_the_folder_may_read_the_file(tmp_path: Path, umask: None) -> None:
    write_whole(tmp_path / "run.prom", "text")
    assert stat.S_IMODE((tmp_path / "run.prom").stat().st_mode) == 0o644


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.prom"
    write_whole(path, "old")
    with path.open() as reader:
        write_whole(path, "new, and longer")
        assert reader.read() == "old"
    assert path.read_text() == "new, and longer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(StateError):
        write_whole(folder, "a folder that isn't empty can't be replaced")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    write_whole(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "target").read_text() == "new"
