from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import UsageError
from etl.listeners.report import PAGES, ReportListener, bar_parts, report_page
from etl.listeners.run_record import RunRecorder
from etl.run_events import Detailed, Ended, Event, Paused, Progressed, Recovered, Warned
from etl.tally import Tally
from etl.text import one_line, printable
from tests.examples import examples

from .events import HOSTILE, TIMING, Clock, started, summary

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta"}


class Outline(HTMLParser):
    """What an HTML parser finds: elements, attributes, the text, and whether all that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.order: list[str] = []
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
        self.order.append(tag)
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
    tell = ReportListener(path / "run.html", command=lambda: command, clock=clock)
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
        "bad_number 800 80.0 % Remedy: set `decimal`, `thousands` and `strip`, or `invalid: skip`",
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
    assert "Rejected rows" not in text


def test_hostile_words_never_become_markup(tmp_path: Path) -> None:
    plain = report(tmp_path, [started(), Warned("w", "plain"), Ended(summary(status="stopped"))], "run")
    ended = Ended(summary(HOSTILE, status="stopped", rejects_by_code={HOSTILE: 5, "missing_id": 3}))
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
    assert not re.search(r"@import|url\((?!#)", text)
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
    parts = bar_parts({"accepted": 900_000, "unchanged": 60_000, "merged": 39_000, "rejected": 1_000})
    assert [kind for kind, *_ in parts] == ["accepted", "unchanged", "merged", "rejected"]
    assert parts[-1][1] + parts[-1][2] == pytest.approx(100, abs=0.1)
    assert parts[0][1:][0::2] == (0.0, "accepted 90.0 %")
    text = report(tmp_path, [started(), Ended(summary())])
    assert all(f'<svg x="{x}%" width="{width}%"' in text for _, x, width, _ in parts)


@settings(max_examples=examples(100))
@given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 10**12)))
def test_every_part_of_the_bar_can_be_seen_and_together_they_fill_it(counts: dict[str, int]) -> None:
    widths = {kind: width for kind, _, width, _ in bar_parts(counts)}
    assert sum(widths.values()) == pytest.approx(100, abs=0.1)
    assert all(width >= 0.3 for width in widths.values())
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
    assert "Where the time went 61 % waiting for the rate limit, 22 % for answers, 10 % for rows" in text
    for words in ("reading 11 s", "the rate limit 10 min 10 s", "answer, p50 80 ms answer, p95 200 ms"):
        assert words in text
    assert "Where the time went" not in Outline(report(tmp_path, [started(), Ended(summary())])).text


def everything(text: str, number: int) -> list[Event]:
    """The events of a run that has everything, with this text wherever one comes from outside."""
    mapping = ((text, text, {"type": text, "transform": [{"trim": text}]}), ("kind", None, {"value": text}))
    details = Detailed(
        files=((text, number, text), ("b.csv", None, "sample 12")),
        mapping=mapping,
        changes={text: (number, 1, 2), "$set.plan": (1, 0, 0)},
        examples=(("bad_number", text, number, text), ("bad_number", text, 2, text)),
        rejects_path=text,
    )
    steps: list[Event] = [Progressed(Tally(rows=n, throttled=n), latencies={0.1: 2}) for n in range(5)]
    codes, reason = {text: 5, "bad_number": 3}, one_line(text)
    found = summary(text, status="stopped", rejects_by_code=codes, reason=reason, hint=text)
    skipped = replace(found, skipped_values={text: {"bad_date": 3, text: 1}}, timing=TIMING)
    pauses: list[Event] = [Paused(text, 1.0, 0.0, status=429), Recovered(3.0)]
    return [started(text), *steps, *pauses, Warned(text, text), details, Ended(skipped)]


def page_of(events: list[Event], command: str = "run") -> str:
    clock = Clock()
    recorder = RunRecorder(clock=clock)
    for event in events:
        recorder.note(event)
        clock.forward(60)
    assert isinstance(events[-1], Ended)
    record = recorder.record(events[-1].summary)
    return report_page(record, command=command, past=[record])


TEXTS = st.text() | st.sampled_from([HOSTILE, "<b>" * 4000, "\u05e9\u05dc\u05d5\u05dd</bdi>"])


@settings(max_examples=examples(100))
@given(TEXTS.map("x{}".format), st.integers(1, 2**53))
def test_whatever_comes_in_the_page_has_the_same_structure(text: str, number: int) -> None:
    page = page_of(everything(text, number))
    assert not set(page) & set("\x1b\u202e\ud800\r\x00")
    assert len(page) < 150_000
    assert Outline(page).order == Outline(page_of(everything("xy", 7))).order


def test_only_the_owner_may_read_examples(tmp_path: Path) -> None:
    events = everything("secret@example.com", 3)
    text = Outline(report(tmp_path, events)).text
    assert "secret@example.com row 3: secret@example.com" in text
    assert "and 1 more" in text
    assert (tmp_path / "run.html").stat().st_mode & 0o777 == 0o600
    tell = ReportListener(tmp_path / "masked.html", mask=True)
    for event in events:
        tell(event)
    assert "row 3" not in (tmp_path / "masked.html").read_text()
    assert (tmp_path / "masked.html").stat().st_mode & 0o077


def test_tells_what_was_asked_what_changed_and_how_it_went() -> None:
    text = Outline(page_of(everything("plan", 3))).text
    for words in (
        "plan 3 B plan b.csv sample 12",
        "kind the same for all value: plan",
        "plan 3 1 2 plan 1 0 0",
        "Throttled answers (429) a minute",
        "plan : bad_date Remedy: add the format",
        "Why the run paused reason times plan 1",
    ):
        assert words in text


def test_without_changes_it_says_so_and_claims_nothing_where_they_are_unknown(tmp_path: Path) -> None:
    quiet = Detailed(changes={"$set.plan": (0, 0, 0)})
    assert "No user has another value" in report(tmp_path, [started(), quiet, Ended(summary())])
    assert "Changes by property" not in report(tmp_path, [started(), Detailed(), Ended(summary())])
