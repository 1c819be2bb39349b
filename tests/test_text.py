from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.text import (
    address,
    columns,
    counted,
    filled,
    in_table,
    one_line,
    per_second,
    share,
    shortened,
    size,
    span,
)
from tests.examples import each_row, examples


@settings(max_examples=examples(100))
@given(st.text())
def test_foreign_text_is_always_one_printable_line(text: str) -> None:
    assert one_line(text).isprintable()
    assert one_line(one_line(text)) == one_line(text)


def test_plain_text_stays() -> None:
    assert one_line("Müller & 名前 🙂") == "Müller & 名前 🙂"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_949, "1.0 MB"), (1_234_567_890, "1.2 GB")],
)
def test_sizes(count: int, words: str) -> None:
    assert size(count) == words


@each_row(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (7384, "2 h 03 min"),
        (86400 * 3 + 3600 * 4, "3 d 04 h"),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_an_endless_span_is_no_fault() -> None:
    assert span(float("inf")).endswith(" h")


@settings(max_examples=examples(100))
@given(st.integers(1, 10**12), st.data())
def test_only_nothing_is_zero_and_only_all_is_a_hundred(whole: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, whole))
    assert (share(part, whole) == "0 %") == (part == 0)
    assert (share(part, whole) == "100 %") == (part == whole)
    assert share(part, whole) not in {"0.0 %", "100.0 %"}
    assert len(share(part, whole)) <= 7


def test_numbers_and_nouns() -> None:
    assert counted(1, "row") == "1 row"
    assert counted(1_234_567, "row") == "1,234,567 rows"
    assert counted(2, "retry", "retries") == "2 retries"
    assert per_second(5, 0) == "0 rows/s"


def test_columns_count_wide_letters_twice_and_accents_not() -> None:
    assert columns("abc") == 3
    assert columns("名前") == 4
    assert columns("e\u0301") == 1


@each_row(
    ("endpoint", "shown"),
    [
        ("https://api2.amplitude.com", "https://api2.amplitude.com"),
        ("http://127.0.0.1:8080/base", "http://127.0.0.1:8080/base"),
        ("https://user:secret@host:8443/x", "https://host:8443/x"),
        ("https://user:secret@host/x?api_key=secret#secret", "https://host/x"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://user:secret@host:port/", "(not a URL)"),
    ],
)
def test_an_address_never_shows_a_secret(endpoint: str, shown: str) -> None:
    assert address(endpoint) == shown


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (45, [["名名名名名名名名名名", "next try in 1 min 15 s"]]),
        (44, [["名名名名名名名名名名"], ["next try in 1 min 15 s"]]),
        (1, [["名名名名名名名名名名"], ["next try in 1 min 15 s"]]),
    ],
)
def test_a_phrase_moves_to_the_next_line_whole(width: int, lines: list[list[str]]) -> None:
    assert filled(["名" * 10, "next try in 1 min 15 s"], width, joint=3) == lines
    assert filled([], width) == []


@settings(max_examples=examples(100))
@given(st.lists(st.text("ab ", min_size=1, max_size=9)), st.integers(1, 30), st.integers(1, 3))
def test_no_line_is_wider_than_asked_for_but_by_one_phrase(
    phrases: list[str], width: int, joint: int
) -> None:
    lines = filled(phrases, width, joint)
    assert [phrase for line in lines for phrase in line] == phrases
    assert all(len(line) == 1 or len((" " * joint).join(line)) <= width for line in lines)


@settings(max_examples=examples(100))
@given(st.text("ab名e\u0301 ", max_size=30), st.integers(1, 20))
def test_a_shortened_text_fits_and_begins_as_it_did(text: str, most: int) -> None:
    short = shortened(text, most)
    assert columns(short) <= most
    assert short == text or (short[-1] == "\u2026" and text.startswith(short[:-1]))


def test_cells_stand_below_each_other() -> None:
    rows = [("name", "rows", ""), ("名前", "1,000", "x"), ("much too long", "7", "")]
    assert list(in_table(rows, right={1}, most=(6,))) == [
        "name     rows",
        "名前    1,000  x",
        "muc...      7",
    ]
