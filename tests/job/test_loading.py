from __future__ import annotations

import datetime as dt
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from etl.errors import ExitCode, JobError, UsageError
from etl.job import loading
from etl.job.loading import MAX_PARTS, UnreadableError
from etl.job.scalars import PlainScalar, resolved
from etl.job.spec import Job, parse_job
from tests.examples import each_row

# Both of PyYAML's parsers, as the fast one isn't built everywhere.
LOADERS = [getattr(yaml, name) for name in ("CSafeLoader", "SafeLoader") if hasattr(yaml, name)]


def read(text: str) -> loading.Document:
    """The document that every parser reads in a text."""
    documents = []
    for loader in LOADERS:
        with patch.object(loading, "LOADER", loader):
            documents.append(loading.read_document(text))
    assert documents[0] == documents[-1]
    return documents[0]


def refusals(text: str) -> Iterator[tuple[int | None, str]]:
    """Line and message of the problem that each parser has with a text."""
    for loader in LOADERS:
        with patch.object(loading, "LOADER", loader), pytest.raises(UnreadableError) as caught:
            loading.read_document(text)
        yield caught.value.problem.line, caught.value.problem.message


@each_row("word", ["no", "yes", "on", "off", "y", "2024-01-01", "12:30:45", "0b1", "1_000", "=", "x"])
def test_what_only_yaml_1_1_takes_for_more_is_text(word: str) -> None:
    assert PlainScalar(word).value == word


@each_row(
    ("word", "meaning"),
    [
        ("null", None),
        ("~", None),
        ("", None),
        ("True", True),
        ("false", False),
        ("-012", -12),
        ("0o17", 15),
        ("0xFf", 255),
        ("1.10", 1.1),
        (".5", 0.5),
        ("1e3", 1000.0),
    ],
)
def test_a_bare_word_means_what_the_core_schema_says(word: str, meaning: object) -> None:
    assert PlainScalar(word).value == meaning
    assert type(PlainScalar(word).value) is type(meaning)


def test_a_bare_word_stays_its_text() -> None:
    data = read("no: 1.10\n2024: null\nq: 'true'\n").data
    assert data == {"no": "1.10", "2024": "null", "q": "true"}
    assert resolved(data) == {"no": 1.1, "2024": None, "q": "true"}


@pytest.mark.parametrize("word", [".inf", "-.INF", ".NaN", "1e999", "9" * 5000])
def test_what_json_has_no_number_for_is_not_finite(word: str) -> None:
    meaning = PlainScalar(word).value
    assert isinstance(meaning, float)
    assert not math.isfinite(meaning)


def test_every_part_knows_its_line() -> None:
    text = "a: 1\nb:\n  - x\n\n  - {c: 1,\n     d: 2}\n# é 😀\ne: |\n  one\n  two\nf: &x [1]\ng: *x\n"
    text = text.replace("\n", "\r\n")
    assert read(text).lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 1): 5,
        ("b", 1, "c"): 5,
        ("b", 1, "d"): 6,
        ("e",): 8,
        ("f",): 11,
        ("f", 0): 11,
        ("g",): 12,
    }


def test_lines_are_counted_as_editors_count_them() -> None:
    assert read('a: "x\u2028y\x85z"\nb: 1\n').lines[("b",)] == 2


def test_a_key_given_twice_is_found_and_the_first_one_counts() -> None:
    document = read("a: {b: 1}\nc: 2\na:\n  b: 5\n")
    assert document.data == {"a": {"b": "1"}, "c": "2"}
    assert document.lines["a", "b"] == 1
    (finding,) = document.problems
    assert (finding.line, finding.message) == (3, "`a` is given a second time; the first is in line 1")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: c: d\n", 2, "a `:` too many"),
        ("a:\n\tb: 1\n", 2, "a tab can't indent"),
        ("x: 1\na: [1,\n  2\n", 2, "the `[` opened here is never closed"),
        ("x: 1\na: {b: 1\n", 2, "the `{` opened here is never closed"),
        ('x: 1\na: "b\nc: d\n', 2, "the quote opened here is never closed"),
        ("x: 1\nfoo\nbar: 1\n", 2, "there is no `: `"),
        ("a: @x\n", 1, "begins with `@` must be quoted"),
        ("a: `x`\n", 1, "begins with a backquote must be quoted"),
        ("a: %x\n", 1, "begins with `%` must be quoted"),
        ("a: ,\n", 1, "must be quoted"),
        ("a: 'it's'\n", 1, "doesn't fit"),
        ("a:\n - b\n c: 1\n", 3, "doesn't fit"),
        ("a: 1\nb: *x\n", 2, "`*x` refers to nothing"),
        ("a: 1\nb: &x [*x]\n", 2, "stands inside of what it refers to"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a: 1\n...\nrubbish\n", 3, "a second document can't follow"),
        ("%YAML 3.0\n---\na: 1\n", 1, "not YAML"),
        ("a: 1\n? [b]\n: c\n", 2, "a key must be a plain word"),
        ("a: 1\nb: x\x07y\n", 2, "U+0007"),
        ("a: 1\nb: \ufeff\n", 2, "U+FEFF"),
        ("a: 1\nb: \ud800\n", 2, "U+D800"),
        ("", None, "the file is empty"),
        ("# nothing\n", None, "the file is empty"),
        ("- a\n", 1, "a job file is a mapping"),
        ("word\n", 1, "a job file is a mapping"),
        ("a: 1\nb: " + "[" * 50_000, 2, "nested deeper than 60 levels"),
        ("- " * 5000, 1, "nested deeper than 60 levels"),
        ("a: " + "x" * 1_000_001, None, "longer than 1,000,000 characters"),
    ],
)
def test_what_cant_be_read_is_one_finding_with_its_line(text: str, line: int | None, words: str) -> None:
    for found, message in refusals(text):
        assert (found, words in message) == (line, True), message


@pytest.mark.parametrize("escape", [r"\ud800", r"\q", r"\U00110000"])
def test_escapes_that_mean_nothing_are_refused(escape: str) -> None:
    assert len(list(refusals(f'a: "{escape}"\n'))) == len(LOADERS)


def test_tags_are_found_and_never_obeyed() -> None:
    document = read("a: !!python/object/apply:os.getcwd []\nb: !!binary aGk=\nc: ! x\n")
    assert document.data == {"a": [], "b": "aGk=", "c": "x"}
    assert [finding.line for finding in document.problems] == [1, 2, 3]


def test_merge_keys_are_refused() -> None:
    document = read("a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n")
    assert [(finding.line, "`<<`" in finding.message) for finding in document.problems] == [(3, True)]
    assert document.data["b"] == {"y": "2"}


def test_aliases_stand_for_what_they_refer_to() -> None:
    assert read("a: &a [x]\nb: *a\na2: &a y\nc: *a\n").data == {
        "a": ["x"],
        "b": ["x"],
        "a2": "y",
        "c": "y",
    }


def test_a_billion_laughs_are_refused_at_once() -> None:
    laughs = "a0: &a0 [ha, ha, ha]\n"
    laughs += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    begun = time.process_time()
    found = list(refusals(laughs))
    assert time.process_time() - begun < 2
    assert all(line == 6 and f"more than {MAX_PARTS:,} parts" in message for line, message in found)


def test_json_reads_as_what_it_is() -> None:
    data = {"a": {"b": ["é😀\\ud83d", "x\ty/"], "c": "", "𝄞": "\\"}, "d": "\u2028"}
    for ascii_only in (True, False):
        for indent in (None, 2, "\t"):
            assert read(json.dumps(data, ensure_ascii=ascii_only, indent=indent)).data == data


def test_json_lines_are_exact_too() -> None:
    assert read('{\n\t"a": {\n\t\t"b": 1\n\t}\n}').lines == {("a",): 2, ("a", "b"): 3}


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read("\ufeffa: 1").data == {"a": "1"}


def test_what_only_looks_like_json_is_yaml() -> None:
    assert read("{a: no, b: [1]}").data == {"a": "no", "b": ["1"]}
    assert all("nested deeper" in message for _, message in refusals('{"a":' * 10_000))
    assert all(line == 1 for line, _ in refusals('{"a": 1,\n"b": 2'))


SMALL: dict[str, object] = {"identification": {"user_id": "id"}}


def told(data: dict[Any, Any]) -> list[str]:
    with pytest.raises(JobError) as caught:
        Job.of(data)
    assert all(fault.line is None for fault in caught.value.faults)
    return [fault.message for fault in caught.value.faults]


def test_a_dict_makes_the_job_that_its_file_makes() -> None:
    data = {
        "name": "n",
        "source": ("a.csv",),
        "identification": {
            "user_id": "id",
            "user_properties": {"a": {"value": [1, 2.5, "x", True]}, "b": {"column": "c", "type": "date"}},
        },
    }
    text = "name: n\nsource: a.csv\nidentification:\n  user_id: id\n  user_properties:\n"
    text += "    a: {value: [1, 2.5, x, true]}\n    b: {column: c, type: date}\n"
    assert Job.of(data, folder=Path("f")) == parse_job(text, name="job", folder=Path("f"))


def test_faults_of_a_dict_tell_the_path() -> None:
    assert told({"identification": {"user_id": "id", "user_propertys": {}}}) == [
        "identification.user_propertys: unknown key `user_propertys`; did you mean `user_properties`?"
    ]


def test_a_path_may_be_a_source() -> None:
    assert Job.of({**SMALL, "source": [Path("a") / "b.csv"]}).source == ("a/b.csv",)


def test_variables_come_from_the_caller() -> None:
    data = {**SMALL, "source": "${A}.csv"}
    assert Job.of(data, environ={"A": "x"}).source == ("x.csv",)
    assert told(data) == ["source.0: `source` needs the environment variable A, which is not set"]


@each_row("value", [dt.date(2024, 1, 1), b"x", {1, 2}, object(), "\ud800", {"a": "\ud800"}])
def test_what_no_file_could_hold_is_refused(value: object) -> None:
    data = {"identification": {"user_id": "id", "user_properties": {"p": {"value": value}}}}
    assert any("can't be used" in message for message in told(data))


def test_keys_are_text() -> None:
    assert "a key must be text" in told({**SMALL, 1: 2})


def test_data_that_holds_itself_is_refused() -> None:
    data: dict[str, object] = {"identification": {"user_id": "id"}}
    data["identification"] = {"user_id": "id", "user_properties": {"p": {"value": data}}}
    assert any("nested deeper" in message for message in told(data))
    wide: list[object] = ["x"]
    for _ in range(40):
        wide = [wide, wide]
    assert any("parts" in message for message in told({**SMALL, "name": wide}))


def test_numbers_are_not_taken_for_names() -> None:
    assert told({"identification": {"user_id": 2024}}) == [
        "identification.user_id: `user_id` must be a column's name, or a mapping such as {column: NAME}"
    ]


SMALL_TEXT = "identification: {user_id: id}\n"


def test_a_file_is_loaded_with_its_folder_and_stem(tmp_path: Path) -> None:
    path = tmp_path / "nightly.users.yml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL_TEXT.encode())
    job = Job.load(path, environ={})
    assert (job.name, job.folder, job.file) == ("nightly.users", tmp_path, str(path))
    assert job.state_dir == tmp_path / ".propsync" / "nightly.users"


def test_an_accent_in_a_name_is_one_character(tmp_path: Path) -> None:
    path = tmp_path / "o\u0308sterreich.yml"
    path.write_text(SMALL_TEXT)
    assert Job.load(path, environ={}).name == "\u00f6sterreich"


def test_a_file_that_cant_name_the_job_is_told_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "my job.yml"
    path.write_text(SMALL_TEXT)
    with pytest.raises(JobError, match="Add a line `name: NAME`"):
        Job.load(path, environ={})
    path.write_text(SMALL_TEXT + "name: my-job\n")
    assert Job.load(path, environ={}).name == "my-job"


def test_a_missing_file_is_told_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such job file") as caught:
        Job.load(tmp_path / "no.yml", environ={})
    assert "propsync init" in str(caught.value.hint)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_folder_is_no_job_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        Job.load(tmp_path, environ={})


@pytest.mark.parametrize("name", ["a\0b", "n" * 5000, "file.txt/job.yml"])
def test_a_path_that_cant_be_opened_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(UsageError, match="can't be read"):
        Job.load(tmp_path / name, environ={})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "job.yml"
    path.write_text(SMALL_TEXT)
    path.chmod(0)
    with pytest.raises(UsageError, match="can't be read"):
        Job.load(path, environ={})


def test_what_isnt_utf_8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "job.yml"
    path.write_bytes(SMALL_TEXT.encode() + b"# caf\xe9\n")
    with pytest.raises(JobError) as caught:
        Job.load(path, environ={})
    assert [fault.line for fault in caught.value.faults] == [2]
    assert "UTF-8" in caught.value.message


@pytest.mark.parametrize("content", ["x", "é"])
def test_a_huge_file_is_refused_without_reading_it_all(tmp_path: Path, content: str) -> None:
    path = tmp_path / "job.yml"
    path.write_text("##" + content * 4_500_000)
    with pytest.raises(JobError, match="too long for a job"):
        Job.load(path, environ={})
