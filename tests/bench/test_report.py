"""The page of performance says durations as people do, and its bars have one scale."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from bench.pictures import Bar, bars
from bench.report import at_least, at_most, for_people
from tests.examples import each_row

SVG = "{http://www.w3.org/2000/svg}"


@each_row(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (1000, "17 min"),
        (59.4 * 60, "59 min"),
        (59.6 * 60, "1.0 h"),
        (10_000, "2.8 h"),
        (50_000, "14 h"),
        (5_000_000, "57.9 days"),
    ],
)
def test_a_duration_is_in_the_unit_that_one_would_say_it_in(seconds: float, text: str) -> None:
    assert for_people(seconds) == text


def test_bars_are_as_long_as_their_values_and_say_them() -> None:
    picture = bars("Users & rows", "longer is better", [Bar("a <b>", 200.0, "200 s"), Bar("c", 50.0, "50 s")])
    tree = ET.fromstring(picture)
    first, second = (float(one.get("width", "0")) for one in tree.iter(f"{SVG}rect"))
    assert first == pytest.approx(4 * second, abs=0.5)
    texts = [one.text for one in tree.iter(f"{SVG}text")]
    assert texts == ["Users & rows", "longer is better", "a <b>", "200 s", "c", "50 s"]
    assert tree.get("aria-label") == "Users & rows"


def test_a_target_holds_up_to_its_number() -> None:
    assert at_least("it", 0.35, 0.35).endswith("| holds |")
    assert at_least("it", 0.34, 0.35).endswith("| missed |")
    assert at_most("it", 1.3, 1.3).endswith("| holds |")
    assert at_most("it", 1.31, 1.3).endswith("| missed |")
