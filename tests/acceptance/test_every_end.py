"""However a run ends, summary, page, metrics and log say the same of it: status, exit code, reason, hint."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from etl.checkpoint import StateDir
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.acceptance import exports
from tests.acceptance.sending import send
from tests.commands import QUICK, Finished, Propsync

Prepare = Callable[["Night"], tuple[str | Path, ...]]
NOT_BEGUN = 0


@dataclass
class Night:
    """A run, the files that it is told of in, and what there is to break."""

    propsync: Propsync
    sandbox: Sandbox
    folder: Path
    job: Path
    patch: pytest.MonkeyPatch
    stack: ExitStack

    def __call__(self, *arguments: str | Path) -> Finished:
        told = ("--report", "night.html", "--metrics-file", "night.prom", "--log-format", "json", "--json")
        return self.propsync("run", self.job, "--endpoint", self.sandbox.url, *QUICK, *told, *arguments)

    def metric(self, name: str, job: str = "job", **labels: str) -> float | None:
        for family in text_string_to_metric_families((self.folder / "night.prom").read_text()):
            for sample in family.samples:
                if sample.name == f"propsync_{name}" and sample.labels == {"job": job, **labels}:
                    return sample.value
        return None

    def page(self) -> str:
        text = re.sub(r"<style>.*?</style>", "", (self.folder / "night.html").read_text(), flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


@pytest.fixture
def night(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Night]:
    exports.write_csv(tmp_path / "users.csv", 40, bad=(7,))
    with ExitStack() as stack:
        yield Night(propsync, sandbox, tmp_path, job, monkeypatch, stack)


def all_is_well(night: Night) -> tuple[str | Path, ...]:
    exports.write_csv(night.folder / "users.csv", 40)
    return ()


def raising(error: BaseException) -> Prepare:
    def prepare(night: Night) -> tuple[str | Path, ...]:
        def fail(*_: object, **__: object) -> None:
            raise error

        night.patch.setattr("etl.pipeline.run.run_job", fail)
        return ()

    return prepare


def writing(name: str, text: str) -> Prepare:
    def prepare(night: Night) -> tuple[str | Path, ...]:
        (night.folder / name).write_text(text)
        return ()

    return prepare


def options(*words: str) -> Prepare:
    return lambda _: words


def without_key(night: Night) -> tuple[str | Path, ...]:
    night.patch.delenv("AMPLITUDE_API_KEY")
    return ()


def refusing_the_key(night: Night) -> tuple[str | Path, ...]:
    strict = night.stack.enter_context(running_sandbox(SandboxOptions(api_keys=frozenset({"another"}))))
    return ("--endpoint", strict.url)


def away(night: Night) -> tuple[str | Path, ...]:
    night.sandbox.change(outage="503")
    return ("--max-outage", "0.1s")


def changed_too_much(night: Night) -> tuple[str | Path, ...]:
    assert send(night.propsync, night.sandbox, night.job).code == 3
    users = night.folder / "users.csv"
    users.write_text(users.read_text().replace(",plan ", ",other plan "))
    return ("--max-changes", "10%")


def open_to_all(night: Night) -> tuple[str | Path, ...]:
    (night.folder / "state").mkdir(mode=0o700)
    (night.folder / "state").chmod(0o777)
    return ("--state-dir", "state")


# How a run ends: what brings it about, the exit code, the status, and rows (0: it could not begin).
ENDS: dict[str, tuple[Prepare, int, str, int]] = {
    "all is well": (all_is_well, 0, "finished", 40),
    "rows came back": (options(), 3, "finished", 40),
    "too many of them": (options("--max-rejects", "0"), 4, "stopped", 40),
    "too many changes": (changed_too_much, 4, "stopped", NOT_BEGUN),
    "the key is refused": (refusing_the_key, 5, "stopped", 1),
    "nothing gets through": (away, 5, "stopped", 1),
    "the source is not there": (options("gone.csv"), 7, "stopped", NOT_BEGUN),
    "the source can't be read": (writing("users.csv", "id\x00"), 7, "stopped", NOT_BEGUN),
    "no folder for the state": (options("--state-dir", "users.csv/state"), 8, "stopped", NOT_BEGUN),
    "a folder open to all": (open_to_all, 8, "stopped", NOT_BEGUN),
    "no key": (without_key, 2, "stopped", NOT_BEGUN),
    "a wrong option": (options("--rate", "fast"), 2, "stopped", NOT_BEGUN),
    "an unknown option": (options("--rtae", "5"), 2, "stopped", NOT_BEGUN),
    "a batch too big": (options("--batch-size", "1500"), 2, "stopped", NOT_BEGUN),
    "a job file with faults": (writing("job.yml", "source: a\nidentfication: b\n"), 2, "stopped", NOT_BEGUN),
    "a job file that is none": (writing("job.yml", "]"), 2, "stopped", NOT_BEGUN),
    "a secret in a path": (
        writing("job.yml", "source: ${AMPLITUDE_API_KEY}.csv\nidentification: {user_id: id}\n"),
        2,
        "stopped",
        NOT_BEGUN,
    ),
    "a fault of ours": (raising(RuntimeError("broken")), 1, "stopped", NOT_BEGUN),
    "an exit in a library": (raising(SystemExit(0)), 1, "stopped", NOT_BEGUN),
    "a signal": (raising(KeyboardInterrupt()), 130, "interrupted", NOT_BEGUN),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_channel_tells_the_same(night: Night, end: str) -> None:
    prepare, code, status, rows = ENDS[end]
    finished = night(*prepare(night))
    check(night, finished, code, status)
    assert (finished.summary["rows"] > 0) == (rows > 1)


def check(night: Night, finished: Finished, code: int, status: str) -> None:
    summary = finished.summary
    assert (finished.code, summary["exit_code"], summary["status"]) == (code, code, status)
    assert summary["job"] == "job"
    reason, hint = summary["reason"], summary["hint"]
    assert (reason is None) == (code == 0)
    assert code != 0 or hint is None
    check_log(finished, summary)
    assert night.metric("exit_code") == code
    assert night.metric("run_status", status=status) == 1
    assert night.metric("run_status", status="running") == 0
    assert night.metric("last_run_timestamp_seconds") is not None
    assert (night.metric("last_success_timestamp_seconds") is not None) == (status == "finished")
    page = night.page()
    for words in (*(reason or "").splitlines(), hint or ""):
        assert " ".join(words.split()) in page
    assert (f"exit code {code}" in page) == (status != "finished")


def check_log(finished: Finished, summary: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in finished.err.splitlines()]
    assert {line["job"] for line in lines} == {"job"}
    told = [line for line in lines if line["event"] in {"ended", "failed"}]
    assert told
    for line in told:
        assert {key: line[key] for key in ("status", "exit_code", "reason", "hint")} == {
            key: summary[key] for key in ("status", "exit_code", "reason", "hint")
        }
    assert (lines[-1]["event"] == "failed") == (summary["status"] != "finished")


CODES = [code for _, code, _, _ in ENDS.values()]
UNFINISHED = [
    pytest.param(end, marks=() if place == CODES.index(code) else pytest.mark.soak)
    for place, (end, (_, code, status, _)) in enumerate(ENDS.items())
    if status != "finished"
]


@pytest.mark.parametrize("end", UNFINISHED)
def test_no_channel_still_tells_of_the_night_before(night: Night, end: str) -> None:
    bad = (night.folder / "users.csv").read_text()
    exports.write_csv(night.folder / "users.csv", 40)
    night()
    success, last = night.metric("last_success_timestamp_seconds"), night.metric("last_run_timestamp_seconds")
    (night.folder / "users.csv").write_text(bad)
    prepare, code, status, _ = ENDS[end]
    words = prepare(night)
    assert night(*words, *(() if "--max-changes" in words else ("--full",))).code == code
    assert night.metric("last_success_timestamp_seconds") == success
    now = night.metric("last_run_timestamp_seconds")
    assert now is not None
    assert last is not None
    assert now > last
    assert night.metric("exit_code") == code
    assert night.metric("run_status", status=status) == 1
    assert f"job {status}, exit code {code}" in night.page()


def test_another_run_is_active(night: Night) -> None:
    folder = StateDir(night.folder / ".propsync" / "job")
    folder.prepare()
    with folder.hold():
        check(night, night(), 6, "stopped")


@pytest.mark.parametrize("lost", ["report", "metrics-file"])
def test_one_channel_that_can_t_be_opened_is_told_on_the_others(night: Night, lost: str) -> None:
    finished = night(f"--{lost}", "nowhere/file")
    assert (finished.code, finished.summary["exit_code"]) == (2, 2)
    assert "there is no folder" in finished.summary["reason"]
    assert night.sandbox.stats.requests == 0
    if lost == "report":
        assert night.metric("exit_code") == 2
    else:
        assert "there is no folder" in night.page()


def test_a_job_is_called_by_its_name_also_where_its_file_has_faults(night: Night) -> None:
    night.job.write_text(f"name: nightly\n{night.job.read_text()}")
    assert night().code == 3
    success = night.metric("last_success_timestamp_seconds", "nightly")
    assert success is not None
    night.job.write_text(night.job.read_text().replace("user_id:", "user_ids:"))
    finished = night()
    assert (finished.code, finished.summary["job"]) == (2, "nightly")
    assert night.metric("exit_code", "nightly") == 2
    night.job.write_text("name: nightly\n]")
    assert night().summary["job"] == "job"
    assert night.metric("exit_code", "job") == 2
    assert night.metric("last_success_timestamp_seconds", "nightly") == success


def test_a_run_without_a_job_has_a_name_too(propsync: Propsync) -> None:
    for arguments in (("run", "--json"), ("run", "", "--json"), ("run", "..", "--json")):
        finished = propsync(*arguments)
        assert finished.code == 2
        assert finished.summary["job"] != ""
        assert finished.summary["exit_code"] == 2


def test_the_page_of_a_run_that_stopped_says_how_to_go_on(night: Night) -> None:
    night("--max-rejects", "0", "--restart")
    assert "What is committed is kept. Then run: propsync run" in night.page()
    assert "--restart" not in night.page()
    assert "fix the job or the export" in night.page()


def test_the_rejects_limit_is_told_with_the_remedy_of_the_docs(night: Night) -> None:
    hint = night("--max-rejects", "0").summary["hint"]
    assert "fix the job or the export" in hint
    assert "--max-rejects" in hint
    assert "same command" in hint


def test_what_goes_wrong_after_the_end_does_not_change_it(night: Night) -> None:
    from etl.pipeline.run import run_job

    def fail_late(*given: Any, **settings: Any) -> None:
        run_job(*given, **settings)
        raise RuntimeError("too late")

    night.patch.setattr("etl.pipeline.run.run_job", fail_late)
    finished = night()
    check(night, finished, 3, "finished")
    assert "too late" in finished.err


# --- a dry run -------------------------------------------------------------------------------------------


def test_a_dry_run_writes_the_page_of_what_it_would_do(night: Night) -> None:
    night()
    before = (night.folder / "night.prom").read_text()
    users = night.folder / "users.csv"
    users.write_text(users.read_text().replace("plan 1", "plan one"))
    finished = night("--dry-run")
    assert finished.code == 3
    assert finished.summary["accepted"] == 6
    page = night.page()
    for words in (
        "dry run: nothing was sent",
        "changed 6",
        "bad_number",
        "rejected 1",
    ):
        assert words in page
    assert "user-0" not in page, "values of users are not for mails"
    assert (night.folder / "night.prom").read_text() == before
    assert "night.prom stays as it is" in finished.err


def test_a_dry_run_that_can_t_begin_says_so_on_the_page(night: Night) -> None:
    night()
    before = (night.folder / "night.prom").read_text()
    finished = night("--dry-run", "gone.csv")
    assert (finished.code, finished.summary["exit_code"]) == (7, 7)
    assert "gone.csv is not there" in night.page()
    assert (night.folder / "night.prom").read_text() == before
