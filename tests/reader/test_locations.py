"""What a location means: the same files in the same order, none twice, and an error that says what to do."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etl.errors import SourceError
from etl.reader import open_source
from etl.reader.locations import find_files, partitions
from tests.reader.reading import batches, rows_of, written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.csv", "sub/c.csv", "sub/deeper/d.tsv", "e.csv.gz", "z[1].csv"):
        written(tmp_path, f"in/{name}", "id\n1\n")
    for name in (
        "in/.hidden.csv",
        "in/_SUCCESS",
        "in/_metadata",
        "in/notes.md",
        "in/.git/x.csv",
        "in/_tmp/y.csv",
    ):
        written(tmp_path, name, "id\n1\n")
    return tmp_path


def names(folder: Path, *given: object) -> list[str]:
    return [file.name for file in open_source(list(given), folder=folder).files]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("in/a.csv", ["in/a.csv"]),
        ("./in/../in/a.csv", ["in/../in/a.csv"]),
        ("in", ["in/a.csv", "in/b.csv", "in/e.csv.gz", "in/sub/c.csv", "in/sub/deeper/d.tsv", "in/z[1].csv"]),
        (
            "in/",
            ["in/a.csv", "in/b.csv", "in/e.csv.gz", "in/sub/c.csv", "in/sub/deeper/d.tsv", "in/z[1].csv"],
        ),
        ("in/*.csv", ["in/a.csv", "in/b.csv", "in/z[1].csv"]),
        ("in/[ab].*", ["in/a.csv", "in/b.csv"]),
        ("*/?.csv", ["in/a.csv", "in/b.csv"]),
        ("in/**/*.csv", ["in/a.csv", "in/b.csv", "in/sub/c.csv", "in/z[1].csv"]),
        ("in/sub*", ["in/sub/c.csv", "in/sub/deeper/d.tsv"]),
        ("in/*/deeper/d.tsv", ["in/sub/deeper/d.tsv"]),
        ("in/z[1].csv", ["in/z[1].csv"]),
        ("in/.h*", ["in/.hidden.csv"]),
        ("in/_SUCCESS", ["in/_SUCCESS"]),
    ],
)
def test_names_are_relative_and_sorted(folder: Path, location: str, expected: list[str]) -> None:
    assert names(folder, location) == expected


def test_relative_to_where_the_program_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "in" / "sub")
    assert names(Path(), ".") == ["c.csv", "deeper/d.tsv"]
    assert names(Path(), "*.csv", "../a.csv") == ["c.csv", "../a.csv"]


def test_locations_keep_their_order_and_no_file_comes_twice(folder: Path) -> None:
    (folder / "link.csv").symlink_to(folder / "in" / "a.csv")
    given = ["in/b.csv", "in/[ab].csv", "in/../in/b.csv", folder / "in" / "a.csv", "link.csv"]
    assert names(folder, *given) == ["in/b.csv", "in/a.csv"]


def test_absolute_paths_and_file_addresses_name_the_same(folder: Path) -> None:
    path = folder / "in" / "a.csv"
    assert names(Path("elsewhere"), path) == names(Path(), path.as_uri()) == [str(path)]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("in/none.csv", "in/none.csv is not there"),
        ("none/*.csv", "matches no file"),
        ("in/*.xml", "matches no file"),
        ("empty", "holds no data files"),
        ("", "a source is empty"),
        ("nosuch://x/y.csv", "can't be read"),
    ],
)
def test_what_is_not_there_is_named_with_a_remedy(folder: Path, location: str, message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SourceError, match=message) as caught:
        open_source([location], folder=folder)
    assert caught.value.hint


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything, so be nobody for a while if the tests are run by root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read_is_named(folder: Path) -> None:
    path = folder / "in" / "a.csv"
    path.chmod(0)
    with (
        unprivileged(),
        pytest.raises(SourceError, match=r"in/a\.csv may not be read by this user") as caught,
    ):
        open_source(["in/a.csv"], folder=folder)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x/dt=2024-01-01/part.csv", {"dt": "2024-01-01"}),
        ("a=1/b=2%2F3/c=%20/f.csv", {"a": "1", "b": "2/3", "c": " "}),
        ("k=__HIVE_DEFAULT_PARTITION__/f.csv", {"k": None}),
        ("k=/f.csv", {"k": ""}),
        ("=1/plain/f=1.csv", {}),
    ],
)
def test_folders_named_key_and_value_are_columns(name: str, expected: dict[str, str | None]) -> None:
    assert partitions(name) == expected


def test_partitions_of_csv_files_are_columns_and_null_is_null(tmp_path: Path) -> None:
    written(tmp_path, "d/k=1/x.csv", "id\n7\n")
    written(tmp_path, "d/k=__HIVE_DEFAULT_PARTITION__/x.csv", "id\n8\n")
    source = open_source(["d"], folder=tmp_path)
    assert [rows_of(batches(source, file)) for file in (0, 1)] == [
        {1: {"id": "7", "k": "1"}},
        {1: {"id": "8", "k": None}},
    ]


def test_a_column_of_the_file_wins_over_its_folder(tmp_path: Path) -> None:
    written(tmp_path, "k=folder/x.csv", "id,k\n7,file\n")
    assert rows_of(batches(open_source(["k=folder"], folder=tmp_path))) == {1: {"id": "7", "k": "file"}}


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    text = "id,name\n" + "".join(f"{i},{'x' * 100}\n" for i in range(30_000))
    writer = threading.Thread(target=(tmp_path / "pipe.csv").write_text, args=(text,), daemon=True)
    writer.start()
    source = open_source(["pipe.csv"], folder=tmp_path)
    assert not source.repeatable
    assert sum(batch.rows.num_rows for batch in batches(source)) == 30_000
    writer.join(10)
    with pytest.raises(SourceError, match="was read already"):
        batches(source)


def test_a_web_address_is_one_place_named_without_its_secrets() -> None:
    (place,) = find_files("https://user:word@host.example/a/b.csv?token=abc#x", Path())
    assert place.name == "https://host.example/a/b.csv"


def test_a_folder_says_what_it_leaves_out(tmp_path: Path) -> None:
    for name in (
        "a.csv",
        "b.csv.xz",
        "sub/c.docx",
        "sub/d.docx",
        "sub/README",
        "_SUCCESS",
        ".e.csv.crc",
        "f.csv.gz.bak",
    ):
        written(tmp_path, name, "id\n")
    (warning,) = open_source([tmp_path]).warnings
    assert warning.code == "left_out"
    assert "5 files are left out" in warning.message
    assert ".docx (2), .bak (1), .xz (1)" in warning.message.replace("no ending (1), ", "")
    assert "no ending (1)" in warning.message
    assert open_source([tmp_path / "*.csv"]).warnings == ()
    assert open_source([tmp_path / "a.csv"]).warnings == ()


def test_a_folder_of_other_files_says_what_they_are(tmp_path: Path) -> None:
    written(tmp_path, "a.docx", "x")
    with pytest.raises(SourceError, match="holds no data files") as caught:
        open_source([tmp_path])
    assert ".docx" in str(caught.value.hint)
