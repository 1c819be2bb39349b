from __future__ import annotations

import json
import math
import time

import pytest
import yaml

from etl.job import document
from etl.job.bare import Bare, plain
from etl.job.document import read_document
from etl.job.tree import MAX_PARTS, UnreadableError


@pytest.fixture(autouse=True, params=["CSafeLoader", "SafeLoader"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of PyYAML's parsers, as the fast one isn't built everywhere."""
    if not hasattr(yaml, request.param):
        pytest.skip("not built with libyaml")
    monkeypatch.setattr(document, "LOADER", getattr(yaml, request.param))


def refusal(text: str) -> tuple[int | None, str]:
    with pytest.raises(UnreadableError) as caught:
        read_document(text)
    return caught.value.finding.line, caught.value.finding.message


@pytest.mark.parametrize(
    "word", ["no", "yes", "on", "off", "y", "2024-01-01", "12:30:45", "0b1", "1_000", "=", "x"]
)
def test_what_only_yaml_1_1_takes_for_more_is_text(word: str) -> None:
    assert Bare(word).meaning == word


@pytest.mark.parametrize(
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
    assert Bare(word).meaning == meaning
    assert type(Bare(word).meaning) is type(meaning)


def test_a_bare_word_stays_its_text() -> None:
    data = read_document("no: 1.10\n2024: null\nq: 'true'\n").data
    assert data == {"no": "1.10", "2024": "null", "q": "true"}
    assert plain(data) == {"no": 1.1, "2024": None, "q": "true"}


@pytest.mark.parametrize("word", [".inf", "-.INF", ".NaN", "1e999", "9" * 5000])
def test_what_json_has_no_number_for_is_not_finite(word: str) -> None:
    meaning = Bare(word).meaning
    assert isinstance(meaning, float)
    assert not math.isfinite(meaning)


def test_every_part_knows_its_line() -> None:
    text = "a: 1\nb:\n  - x\n\n  - {c: 1,\n     d: 2}\n# é 😀\ne: |\n  one\n  two\nf: &x [1]\ng: *x\n"
    text = text.replace("\n", "\r\n")
    assert read_document(text).lines == {
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
    assert read_document('a: "x\u2028y\x85z"\nb: 1\n').lines[("b",)] == 2


def test_a_key_given_twice_is_found_and_the_first_one_counts() -> None:
    read = read_document("a: {b: 1}\nc: 2\na:\n  b: 5\n")
    assert read.data == {"a": {"b": "1"}, "c": "2"}
    assert read.lines["a", "b"] == 1
    (finding,) = read.findings
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
        ("%YAML 3.0\n---\na: 1\n", 1, "no YAML"),
        ("a: 1\n? [b]\n: c\n", 2, "a key must be a plain word"),
        ("a: 1\nb: x\x07y\n", 2, "U+0007"),
        ("a: 1\nb: \ufeff\n", 2, "U+FEFF"),
        ("a: 1\nb: \ud800\n", 2, "U+D800"),
        ("", None, "the file is empty"),
        ("# nothing\n", None, "the file is empty"),
        ("- a\n", 1, "a job file is a mapping"),
        ("word\n", 1, "a job file is a mapping"),
        ("a: 1\nb: " + "[" * 900_000, 2, "nested deeper than 60 levels"),
        ("- " * 5000, 1, "nested deeper than 60 levels"),
        ("a: " + "x" * 1_000_001, None, "longer than 1,000,000 characters"),
    ],
)
def test_what_cant_be_read_is_one_finding_with_its_line(text: str, line: int | None, words: str) -> None:
    found, message = refusal(text)
    assert (found, words in message) == (line, True), message


@pytest.mark.parametrize("escape", [r"\ud800", r"\q", r"\U00110000"])
def test_escapes_that_mean_nothing_are_refused(escape: str) -> None:
    refusal(f'a: "{escape}"\n')


def test_tags_are_found_and_never_obeyed() -> None:
    read = read_document("a: !!python/object/apply:os.getcwd []\nb: !!binary aGk=\nc: ! x\n")
    assert read.data == {"a": [], "b": "aGk=", "c": "x"}
    assert [finding.line for finding in read.findings] == [1, 2, 3]


def test_merge_keys_are_refused() -> None:
    read = read_document("a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n")
    assert [(finding.line, "`<<`" in finding.message) for finding in read.findings] == [(3, True)]
    assert read.data["b"] == {"y": "2"}


def test_aliases_stand_for_what_they_refer_to() -> None:
    assert read_document("a: &a [x]\nb: *a\na2: &a y\nc: *a\n").data == {
        "a": ["x"],
        "b": ["x"],
        "a2": "y",
        "c": "y",
    }


def test_a_billion_laughs_are_refused_at_once() -> None:
    laughs = "a0: &a0 [ha, ha, ha]\n"
    laughs += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    begun = time.monotonic()
    line, message = refusal(laughs)
    assert time.monotonic() - begun < 1
    assert line == 6
    assert f"more than {MAX_PARTS:,} parts" in message


def test_json_reads_as_what_it_is() -> None:
    data = {"a": {"b": ["é😀\\ud83d", "x\ty/"], "c": "", "𝄞": "\\"}, "d": "\u2028"}
    for ascii_only in (True, False):
        for indent in (None, 2, "\t"):
            assert read_document(json.dumps(data, ensure_ascii=ascii_only, indent=indent)).data == data


def test_json_lines_are_exact_too() -> None:
    assert read_document('{\n\t"a": {\n\t\t"b": 1\n\t}\n}').lines == {("a",): 2, ("a", "b"): 3}


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read_document("\ufeffa: 1").data == {"a": "1"}


def test_what_only_looks_like_json_is_yaml() -> None:
    assert read_document("{a: no, b: [1]}").data == {"a": "no", "b": ["1"]}
    assert "nested deeper" in refusal('{"a":' * 100_000)[1]
    assert refusal('{"a": 1,\n"b": 2')[0] == 1
