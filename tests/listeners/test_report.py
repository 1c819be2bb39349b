from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import UsageError
from etl.listeners.report import BAR_WIDTH, PAGES, ReportListener, bar_widths
from etl.model import Tally
from etl.run_events import Ended, Event, Recovered, Warned
from etl.text import printable
from tests.examples import examples

from .events import HOSTILE, TALLY, TIMING, Clock, started, summary

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta"}


class Outline(HTMLParser):
    """What an HTML parser finds: elements, attributes, the text, and whether all that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.bars: list[dict[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "rect":
            self.bars.append({name: value or "" for name, value in attrs})

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(path: Path, events: list[Event], command: str | None = None) -> str:
    clock = Clock()
    tell = ReportListener(path / "run.html", command=lambda: command, now=clock.now)
    for event in events:
        tell(event)
        clock.forward(60)
    return (path / "run.html").read_text("utf-8")


def test_tells_the_whole_run(tmp_path: Path) -> None:
    warned = Warned("both_ids", "the job maps both ids")
    resumed = summary(resumed_rows=600_000)
    text = Outline(report(tmp_path, [started(), Recovered(70.0), warned, Ended(resumed)])).text
    for words in (
        "nightly finished, 1,000 rows rejected",
        "3 files, 2,000,000 rows, 123 MB to https://api2.amplitude.com",
        "2026-03-01 23:59:30 UTC to 2026-03-02 00:02:30 UTC",
        "1,000,000 rows, every one accounted for; 600,000 of them by earlier runs",
        "accepted taken in by the destination 900,000 90.0 %",
        "unchanged no update needed 60,000 6.0 %",
        "merged sent together with another row of the same user 39,000 3.9 %",
        "1,000 0.1 %",
        "bad_number 800 80.0 % missing_id 200 20.0 %",
        "duration 4 min 10 s speed 4,000 rows/s requests 2,000 bytes sent 346 MB",
        "retries 12 throttled 3 pauses 1 (1 min 10 s) answers in doubt 2 events not counted 5",
        "Warnings the job maps both ids",
    ):
        assert words in text
    assert "unfinished" not in text


def test_an_unfinished_run_says_how_to_go_on_and_what_is_left(tmp_path: Path) -> None:
    told = summary(status="stopped", exit_code=2, reason="job.yml:3: a\njob.yml:5: b", hint="mend <both>")
    text = Outline(report(tmp_path, [started(), Ended(told)], "propsync run 'my job.yml'")).text
    assert "nightly stopped, exit code 2" in text
    assert "This run is unfinished job.yml:3: a job.yml:5: b mend <both> What is committed is kept." in text
    assert "propsync run 'my job.yml'" in text
    assert "not committed left for the next run 1,000,000" in text


def test_a_run_that_ends_before_it_starts_is_told_too(tmp_path: Path) -> None:
    text = Outline(
        report(tmp_path, [Ended(summary(tally=Tally(), status="stopped", rejects_by_code={}))])
    ).text
    assert "stopped before the first row" in text
    assert "Rejects by code" not in text


def test_hostile_words_never_become_markup(tmp_path: Path) -> None:
    plain = report(tmp_path, [started(), Warned("w", "plain"), Ended(summary(status="stopped"))], "run")
    ended = Ended(summary(HOSTILE, status="stopped", rejects_by_code={HOSTILE: 5, "other": 3}))
    hostile = report(tmp_path, [started(HOSTILE), Warned(HOSTILE, HOSTILE), ended], HOSTILE)
    assert Outline(hostile).tags == Outline(plain).tags
    assert Outline(hostile).attributes == Outline(plain).attributes
    assert (
        Outline(hostile).text.count("<script>alert(1)</script>") == 5
    )  # title, heading, command, code, warning
    assert not set(hostile) & set("\x1b\u202e\ud800\r\x00")


def test_needs_nothing_but_itself(tmp_path: Path) -> None:
    text = report(tmp_path, [started(), Ended(summary())])
    outline = Outline(text)
    assert not outline.tags & {"script", "link", "img", "iframe", "object", "embed", "image", "use"}
    assert not outline.attributes & {"src", "href", "xlink:href", "srcset", "action", "background"}
    assert not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert "prefers-color-scheme: dark" in text


def test_the_same_warning_is_written_once_with_its_number(tmp_path: Path) -> None:
    events: list[Event] = [started(), *[Warned("w", "again and again")] * 1000, Ended(summary())]
    text = Outline(report(tmp_path, events)).text
    assert text.count("again and again") == 1
    assert "(1,000 times)" in text


def test_a_place_that_cannot_be_written_is_found_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        ReportListener(tmp_path / "missing" / "run.html")


def test_the_bar_is_as_wide_as_the_picture(tmp_path: Path) -> None:
    bars = [bar for bar in Outline(report(tmp_path, [started(), Ended(summary())])).bars if "x" in bar]
    assert [bar["class"] for bar in bars] == ["accepted", "unchanged", "merged", "rejected"]
    assert float(bars[-1]["x"]) + float(bars[-1]["width"]) == pytest.approx(BAR_WIDTH, abs=0.1)
    assert float(bars[0]["width"]) == pytest.approx(0.9 * BAR_WIDTH, rel=0.02)
    assert TALLY.accepted == 900_000


@settings(max_examples=examples(100))
@given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 10**12)))
def test_every_part_of_the_bar_can_be_seen_and_together_they_fill_it(counts: dict[str, int]) -> None:
    widths = bar_widths(counts)
    assert sum(widths.values()) == pytest.approx(BAR_WIDTH)
    assert all(width >= 3 for width in widths.values())
    if any(counts.values()):
        assert set(widths) == {kind for kind, count in counts.items() if count}


@settings(max_examples=examples(100))
@given(st.text())
def test_any_text_arrives_as_text_in_elements_and_in_attributes(text: str) -> None:
    template = PAGES.from_string('<p>{{ text }}<rect class="{{ text }}"/></p>')
    element = Outline(template.render(text=text))
    assert element.tags == {"p", "rect"}
    assert element.attributes <= {"class"}
    assert "".join(element.words) == printable(text)
    assert element.bars == [{"class": printable(text)}]


def test_says_where_the_time_went(tmp_path: Path) -> None:
    timed = Ended(replace(summary(), timing=TIMING))
    text = Outline(report(tmp_path, [started(), timed])).text
    assert (
        "Seconds by stage and by wait 61 % waiting for the rate limit, 22 % for answers, 10 % for rows"
        in text
    )
    for words in ("source 11 s map 12 s", "rate 10 min 10 s", "answer, p50 80 ms answer, p95 200 ms"):
        assert words in text
    assert "Seconds by stage" not in Outline(report(tmp_path, [started(), Ended(summary())])).text
