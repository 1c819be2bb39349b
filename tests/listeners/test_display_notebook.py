"""What a notebook shows: tables of jobs, plans and summaries, and the progress of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from etl import Job, plan, run
from etl.listeners.display import NotebookListener
from etl.run_events import Paused, Progressed, Recovered, Started, Warned
from etl.sandbox import Sandbox
from etl.tally import Tally
from tests.listeners.events import Clock

HOSTILE = "<script>alert(1)</script>\u202e"


class Cells(HTMLParser):
    """The tags of a fragment, and its texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def job_in(folder: Path) -> Job:
    chosen = {"user_id": "id", "user_properties": {HOSTILE: "plan"}}
    return Job.of({"name": "nightly", "identification": chosen}, folder=folder)


def test_a_job_a_plan_and_a_summary_are_tables(tmp_path: Path, sandbox: Sandbox) -> None:
    job, source = job_in(tmp_path), [{"id": "user-1", "plan": "pro"}, {"id": None, "plan": HOSTILE}]
    (tmp_path / "users.ndjson").write_text(
        "".join(f"{row}\n".replace("'", '"').replace("None", "null") for row in source)
    )
    path = tmp_path / "users.ndjson"
    planned = plan(job, path)
    summary = run(job, path, key="any-key", endpoint=sandbox.url)
    for shown, words in (
        (job, ["user_id", "id", "plan"]),
        (planned, ["rows", "2", "accepted", "1", "rejected"]),
        (summary, ["nightly: finished", "rows", "2", "reason"]),
    ):
        cells = Cells(shown._repr_html_())
        assert cells.tags <= {"table", "caption", "tr", "th", "td", "bdi"}
        assert all(any(word in text for text in cells.texts) for word in words)


def test_progress_is_one_element_that_is_replaced() -> None:
    shown: list[str] = []
    clock = Clock()

    def show(html: str) -> Callable[[str], object]:
        shown.append(html)
        return shown.append

    heard = NotebookListener(show, clock=clock)
    heard(Started(HOSTILE, "http://127.0.0.1:9", 1, 200, 1_000, Tally()))
    clock.forward(5)
    heard(Progressed(Tally(rows=50, accepted=50)))
    assert 'value="50" max="200"' in shown[-1]
    assert "50 of 200 rows" in shown[-1]
    assert " left" in shown[-1]
    heard(Paused("status 503", 2.0, 5.0))
    assert "status 503" in shown[-1]
    heard(Warned("x", HOSTILE))
    heard(Recovered(5.0))
    assert "status 503" not in shown[-1]
    assert "warning: " in shown[-1]
    assert Cells("".join(shown)).tags == {"div", "br", "progress"}


def test_without_a_number_of_rows_the_bar_only_moves() -> None:
    shown: list[str] = []

    def show(html: str) -> Callable[[str], object]:
        shown.append(html)
        return shown.append

    heard = NotebookListener(show, clock=Clock())
    heard(Started("job", "http://127.0.0.1:9", 1, None, None, Tally()))
    assert "<progress style" in shown[-1]
    heard(Progressed(Tally(rows=10), 40))
    assert 'value="10" max="40"' in shown[-1]


def test_a_run_in_a_notebook_shows_its_progress(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def show(html: str, *, display_id: bool) -> SimpleNamespace:
        shown.append(html)
        return SimpleNamespace(update=shown.append)

    display = ModuleType("IPython.display")
    vars(display).update(HTML=str, display=show)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    path = tmp_path / "users.csv"
    path.write_text("id,plan\nuser-1,pro\n")
    run(job_in(tmp_path), path, key="any-key", endpoint=sandbox.url)
    assert "finished after" in shown[-1]
