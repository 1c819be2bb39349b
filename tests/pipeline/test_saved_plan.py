"""A saved plan: what arrives is exactly what it says; if anything differs, nothing arrives."""

from __future__ import annotations

import json
import os
import random
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl import Job
from etl.encoder.encoding import form_objects
from etl.errors import EtlError, ExitCode, PlanError, StateError, UsageError
from etl.pipeline.diff_base import record_baseline
from etl.pipeline.plan import Plan, plan_job
from etl.pipeline.run import run_job
from etl.pipeline.saved_plan import SavedPlan
from etl.pipeline.settings import RejectLimit, Settings
from etl.reader import open_source
from etl.run_events import Summary
from tests.examples import examples
from tests.pipeline.making import KEY, QUICK, law_holds
from tests.pipeline.nights import IDENTIFICATION, POINTS, KilledError, Row, killed, users, write
from tests.pipeline.recording_server import Recorder, recording
from tests.reader.web_server import Behaviour, serving

COUNTING = {
    "user_id": "id",
    "user_properties": {"$set": {"plan": "plan"}, "$add": {"score": {"column": "score", "type": "number"}}},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with recording() as found:
        yield found


@dataclass
class Night:
    """A job in a folder, its export, and the plan of it."""

    job: Job
    server: Recorder
    source: Path | str = ""

    def __post_init__(self) -> None:
        self.file = self.job.folder / "plan.json"
        self.server.arrays.clear()

    def export(self, rows: Sequence[Row], name: str = "users.ndjson") -> None:
        self.source = write(self.job.folder / name, rows)

    def options(self, **more: Any) -> Settings:
        usual: dict[str, Any] = {"endpoint": self.server.url, "rate": None, "requests_per_second": None}
        usual |= {
            "backoff": QUICK,
            "batch_size": 3,
            "progress_every": 0.0,
            "concurrency": 1,
            "max_changes": 100,
        }
        return Settings(**(usual | {"max_absent": 100} | more))

    def plan(self, **more: Any) -> Plan:
        """Plan, and save it."""
        found = plan_job(self.job, open_source([str(self.source)]), settings=self.options(**more))
        found.save(self.file)
        return found

    def run(self, *, listener: Any = lambda _: None, **more: Any) -> Summary:
        source, given = open_source([str(self.source)]), self.options(**more)
        summary = run_job(self.job, source, KEY, settings=given, listener=listener)
        assert law_holds(summary)
        return summary

    def apply(self, **more: Any) -> Summary:
        return self.run(plan=self.file, **more)

    def refused(self, **more: Any) -> str:
        """Apply it, which is refused before anything arrives; what differs."""
        before = len(self.server.arrays)
        with pytest.raises(PlanError) as caught:
            self.apply(**more)
        assert caught.value.exit_code == ExitCode.TOO_MANY_REJECTS
        assert len(self.server.arrays) == before
        return "; ".join(caught.value.differences)


def night_in(folder: Path, server: Recorder, identification: object = None, **others: object) -> Night:
    folder.mkdir(exist_ok=True)
    data = {"name": "job", "source": "users.ndjson", "identification": identification or IDENTIFICATION}
    found = Night(Job.of(data | others, folder=folder), server)
    found.export(users(range(8)))
    return found


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from([*(f"user-{n:05}" for n in range(6)), "x"]),
            "plan": st.sampled_from([None, "free", "größer & mehr + 100%;"]),
            "score": st.sampled_from([None, 1, 2.5, "much"]),
        }
    ),
    min_size=1,
    max_size=14,
)
JOBS = st.fixed_dictionaries(
    {
        "identification": st.sampled_from([IDENTIFICATION, COUNTING]),
        "changes": st.sampled_from(["off", "property"]),
        "absent": st.sampled_from(["keep", "unset"]),
        "destination": st.sampled_from([{"transport": "identify"}, {"transport": "batch"}]),
    }
).filter(
    lambda job: (
        job["absent"] == "keep" or (job["changes"], job["identification"]) == ("property", IDENTIFICATION)
    )
)


def prepared(
    server: Recorder, folder: Path, job: dict[str, Any], nights: list[list[Row]], name: str
) -> Night:
    """A job whose last export is planned, after the others were sent."""
    found = night_in(folder, server, **job)
    for rows in nights[:-1]:
        found.export(rows, name)
        found.run()
    found.export(nights[-1], name)
    server.arrays.clear()
    return found


@settings(
    max_examples=examples(120, 10),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(job=JOBS, nights=st.lists(ROWS, min_size=1, max_size=2), name=st.sampled_from(["a.csv", "a.ndjson"]))
def test_what_arrives_is_what_was_planned(
    server: Recorder, tmp_path_factory: Any, job: dict[str, Any], nights: list[list[Row]], name: str
) -> None:
    night = prepared(server, tmp_path_factory.mktemp("night"), job, nights, name)
    planned = night.plan(again=True)
    os.utime(night.source)  # the same inputs give the same identifications
    assert night.plan(again=True).sha256.hexdigest() == planned.sha256.hexdigest()
    data, summary = json.loads(night.file.read_bytes()), night.apply(again=True)
    assert server.digest() == data["identifications"]["sha256"]
    assert summary.tally.accepted == data["identifications"]["count"]
    for count in ("rows", "accepted", "unchanged", "merged", "rejected"):
        assert getattr(summary.tally, count) == data["plan"][count]
    sent = sum(one["sent"] for one in data["plan"]["properties"])
    assert (sent > 0) >= (summary.tally.accepted > 0) or job["absent"] == "unset"
    assert night.refused(again=True).startswith("it was applied already")


JOB_CHANGES: dict[str, dict[str, Any]] = {
    "constant": {"identification": {**IDENTIFICATION, "language": {"value": "en"}}},
    "mapping": {"identification": {"user_id": "id", "user_properties": {"plan": "score", "score": "plan"}}},
    "changes": {"changes": "user"},
    "no changes": {"changes": "off"},
    "nulls": {"nulls": ["free"]},
    "transport": {"destination": {"transport": "batch"}},
}
OPTION_CHANGES: dict[str, dict[str, Any]] = {"batch size": {"batch_size": 4}, "full": {"full": True}}
CHANGES = ("byte", "row", "gone", "files", "snapshot", "no snapshot", "run", "baseline")


def disturb(night: Night, change: str, chance: random.Random) -> None:
    """Change the source or the snapshot."""
    path, snapshot = Path(night.source), night.job.state_dir / "snapshot.arrow"
    lines = path.read_text().splitlines()
    match change:
        case "byte":
            flip(path, chance)
        case "row":
            path.write_text("\n".join([*lines, lines[-1], ""]))
        case "gone":
            path.write_text("\n".join([*lines[:-1], ""]))
        case "files":
            night.export(users(range(4, 12), plan="new"), f"b{path.suffix}")
        case "snapshot":
            flip(snapshot, chance)
        case "no snapshot":
            snapshot.unlink()
        case "run":
            night.run()
        case "baseline":
            record_baseline(night.job, open_source([str(path)]), settings=night.options())


@pytest.mark.parametrize("change", [*CHANGES, *JOB_CHANGES, *OPTION_CHANGES])
@settings(
    max_examples=examples(20, 1),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 1 << 32), name=st.sampled_from(["a.csv", "a.ndjson"]))
def test_if_anything_differs_nothing_arrives(
    server: Recorder, tmp_path_factory: Any, change: str, seed: int, name: str
) -> None:
    folder = tmp_path_factory.mktemp("night")
    night = prepared(server, folder, {}, [users(range(8)), users(range(4, 12), plan="new")], name)
    night.plan()
    disturb(night, change, random.Random(seed))
    data = {"name": "job", "source": "users.ndjson", "identification": IDENTIFICATION}
    night.job = Job.of(data | JOB_CHANGES.get(change, {}), folder=folder)
    server.arrays.clear()
    with pytest.raises(EtlError) as caught:
        night.apply(**OPTION_CHANGES.get(change, {}))
    # A source that isn't readable any more can't even be opened.
    unreadable = change == "byte" and caught.value.exit_code == ExitCode.SOURCE
    assert isinstance(caught.value, PlanError) or unreadable
    assert server.arrays == []


def flip(path: Path, chance: random.Random) -> None:
    """Change one bit of a file, and nothing that `stat` shows."""
    data, state = bytearray(path.read_bytes()), path.stat()
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


# --- what is said ----------------------------------------------------------------------------------------


def test_the_differences_are_named(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.plan()
    night.export(users(range(9)))
    data = {"name": "job", "source": "users.ndjson", "identification": IDENTIFICATION, "nulls": ["x"]}
    night.job = Job.of(data, folder=tmp_path)
    said = night.refused(full=True, batch_size=50)
    for part in ("identifications in a request: 3 -> 50", "planned without --full", "the job changed: ident"):
        assert part in said
    assert f"{night.source} changed" in said
    assert "rows: 8 -> 9" in said


def test_another_job_is_named(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.plan()
    night.job = Job.of({"name": "other", "source": "x", "identification": IDENTIFICATION}, folder=tmp_path)
    assert night.refused() == "job: job -> other"
    with recording() as elsewhere:
        night = night_in(tmp_path, server)
        said = night.refused(endpoint=elsewhere.url)
        assert said == f"destination: {server.url} -> {elsewhere.url}"
        assert elsewhere.arrays == []


def test_order_and_set_of_files(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    paths = [
        str(write(tmp_path / name, users([number]))) for number, name in enumerate(["a.ndjson", "b.ndjson"])
    ]
    plan_job(night.job, open_source(paths), settings=night.options()).save(night.file)
    for given_paths, text in ((paths[::-1], "the order of the files"), (paths[:1], "b.ndjson is not among")):
        with pytest.raises(PlanError, match=text):
            run_job(night.job, open_source(given_paths), KEY, settings=night.options(plan=night.file))
    assert server.arrays == []


def test_a_snapshot_that_came_or_changed_is_named(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.plan()
    night.run()
    assert night.refused().startswith("there was no snapshot; run 1 wrote one at ")
    night.export(users(range(9)))
    night.plan()
    night.run()
    assert night.refused().startswith("another run happened: run 2 wrote the snapshot at ")
    night.export(users(range(10)))
    night.plan()
    snapshot = night.job.state_dir / "snapshot.arrow"
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole + b"\0")
    assert "snapshot" in night.refused()
    snapshot.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in night.refused()
    snapshot.unlink()
    assert "the snapshot is gone" in night.refused()


# --- runs that are interrupted, limited or restarted -------------------------------------------------------


@settings(
    max_examples=examples(60, 6),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    deaths=st.lists(
        st.tuples(st.sampled_from(POINTS), st.integers(1, 5), st.sampled_from([None, 4])), max_size=3
    ),
    changes=st.sampled_from(["off", "property"]),
)
def test_a_run_that_is_killed_goes_on_under_its_plan(
    server: Recorder, tmp_path_factory: Any, deaths: list[tuple[str, int, int | None]], changes: str
) -> None:
    rows = users(range(17))
    night = prepared(
        server, tmp_path_factory.mktemp("night"), {"changes": changes}, [users(range(3)), rows], "a.csv"
    )
    planned = night.plan()
    for point, number, limit in deaths:
        with killed(point, number) as listener, suppress(KilledError, PlanError, UsageError):
            night.apply(listener=listener, limit=limit)
    finished = False
    with suppress(PlanError):  # it may have finished before
        assert night.apply().tally.accepted == planned.tally.accepted
        finished = True
    assert finished or "applied already" in night.refused()
    came = {row["user_id"] for array in server.arrays for row in updates(array)}
    assert came == {row["id"] for row in (rows if changes == "off" else rows[3:])}


def updates(array: bytes) -> list[dict[str, Any]]:
    from urllib.parse import unquote_plus

    found: list[dict[str, Any]] = json.loads(unquote_plus(array.decode()))
    return found


def begun(night: Night, **more: Any) -> None:
    """A run that is killed once something arrived."""
    with killed("committed", 2) as listener, pytest.raises(KilledError):
        night.run(listener=listener, **more)


def test_an_unfinished_run_under_another_plan_or_none_is_in_the_way(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.plan()
    begun(night)
    assert night.refused() == "there is an unfinished run without a plan"
    night.run()
    night.export(users(range(20, 29)))
    night.plan()
    begun(night, plan=night.file)
    other = tmp_path / "other.json"
    plan_job(night.job, open_source([str(night.source)]), settings=night.options()).save(other)
    with pytest.raises(PlanError, match="an unfinished run of another plan"):
        night.run(plan=other)
    before = night.source
    night.export(users(range(20, 30)), "c.ndjson")
    assert "is new" in night.refused()
    night.source = before
    assert night.run().status == "finished"  # without a plan it goes on, too


def test_an_unfinished_run_that_sent_nothing_is_no_obstacle(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    planned = night.plan()
    night.export([*users(range(8)), {"id": "x"}])
    with pytest.raises(EtlError, match="took nothing"):
        night.run(endpoint="http://127.0.0.1:9", max_outage=0.01)
    night.export(users(range(8)))
    assert night.apply().status == "finished"
    assert server.digest() == planned.sha256.hexdigest()


def test_restart_is_no_way_to_apply_a_plan(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.plan()
    with pytest.raises(UsageError, match="--restart"):
        night.apply(restart=True)


def test_limited_runs_send_the_plan_piece_by_piece(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    planned = night.plan()
    assert night.apply(limit=2).status == "limited"
    assert night.apply(limit=5).status == "limited"
    assert night.apply().status == "finished"
    assert server.digest() == planned.sha256.hexdigest()


def test_guards_stop_a_plan_and_it_can_be_applied_then(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.export([*users(range(8)), {"id": "x", "plan": "a", "score": 1}])
    none = RejectLimit(count=0)
    planned = night.plan(max_rejects=none)
    (guard,) = [guard for guard in planned.guards if guard.name == "max-rejects"]
    assert (guard.limit, guard.found, guard.error) == ("0", "1 reject", planned.refused)
    with pytest.raises(EtlError, match="rejected"):
        night.apply(max_rejects=none)
    assert night.apply().status == "finished"


def test_counters_and_changes_are_guards_of_a_plan(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server, COUNTING)
    night.run()
    planned = night.plan()
    assert [guard.name for guard in planned.guards if guard.error] == ["again"]
    assert not any(guard.error for guard in night.plan(again=True).guards)
    assert night.apply(again=True).status == "finished"
    night = night_in(tmp_path / "absent", server, absent="unset")
    night.export(users(range(20)))
    night.run()
    night.export(users(range(10), plan="new"))
    planned = night.plan(max_changes=20, max_absent=10)
    assert [guard.name for guard in planned.guards if guard.error] == ["max-absent", "max-changes"]
    assert planned.refused is not None
    assert "aren't in the export" in planned.refused.message


# --- sources of every kind ---------------------------------------------------------------------------------


def test_rejects_are_planned_like_any_source(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.export([*users(range(3)), {"id": "user-77777", "plan": "a", "score": "much"}])
    night.run()
    night.source = night.job.state_dir / "rejects.ndjson"
    data = {
        "name": "job",
        "source": "x",
        "identification": {"user_id": "id", "user_properties": {"plan": "plan"}},
    }
    night.job = Job.of(data, folder=tmp_path)
    planned = night.plan()
    server.arrays.clear()
    with killed("renewed") as listener, pytest.raises(KilledError):
        night.apply(listener=listener)
    assert night.apply().status == "finished"
    assert server.digest() == planned.sha256.hexdigest()


def test_a_file_on_the_web(server: Recorder, tmp_path: Path) -> None:
    night, data = night_in(tmp_path, server), Path(tmp_path / "users.ndjson").read_bytes()
    how = Behaviour(data)
    with serving(how) as url:
        night.source = url.replace(".csv", ".ndjson")
        planned = night.plan()
        how.data, how.tag = data.replace(b"plan 1", b"plan 9"), '"two"'
        assert "other content" in night.refused()
        how.data, how.tag = data, '"three"'  # another tag alone is not a difference
        assert night.apply().status == "finished"
        assert server.digest() == planned.sha256.hexdigest()


def test_a_stream_can_t_be_planned(server: Recorder, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    night, table = night_in(tmp_path, server), pa.table({"id": ["user-1"], "plan": ["a"], "score": [1]})
    stream = open_source([table.to_reader()])
    with pytest.raises(UsageError, match="no plan"):
        plan_job(night.job, stream, settings=night.options()).save(night.file)
    planned = plan_job(night.job, open_source([table]), settings=night.options())
    planned.save(night.file)
    with pytest.raises(UsageError, match="no plan"):
        run_job(night.job, open_source([table.to_reader()]), KEY, settings=night.options(plan=night.file))
    other = open_source([pa.table({"id": ["user-2"], "plan": ["a"], "score": [1]})])
    with pytest.raises(PlanError, match="other content"):
        run_job(night.job, other, KEY, settings=night.options(plan=night.file))
    run_job(night.job, open_source([table]), KEY, settings=night.options(plan=night.file))
    assert server.digest() == planned.sha256.hexdigest()


def test_a_transform_belongs_to_the_plan(
    server: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = tmp_path / "planned_transform.py"
    text = "import itertools\nCOUNT = itertools.count()\n\n\ndef go(frame):\n    return frame\n\n\n"
    text += "def wild(frame):\n    return frame.assign(plan=f'plan {next(COUNT)}')\n"
    module.write_text(text)
    night = night_in(tmp_path, server, transform="planned_transform:wild")
    night.plan()
    said = night.refused()
    assert "the transform gives other results" in said
    night = night_in(tmp_path, server, transform="planned_transform:go")
    night.plan()
    module.write_text(module.read_text() + "# new\n")
    assert night.refused() == "the module of the transform changed"


# --- the file --------------------------------------------------------------------------------------------


def test_the_file_is_private_and_has_no_values_of_users(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.export([*users(range(100, 130), plan="a-secret-plan"), {"id": "user-x", "score": "much-too-much"}])
    night.plan()
    assert stat.S_IMODE(night.file.stat().st_mode) == 0o600
    text = night.file.read_text()
    assert KEY not in text
    assert not any(word in text for word in ("user-00", "a-secret-plan", "much-too-much"))
    found = plan_job(night.job, open_source([str(night.source)]), settings=night.options())
    found.save(night.file, with_values=True)
    assert "a-secret-plan" in night.file.read_text()
    assert night.apply().status == "finished"


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "not JSON"), ("[" * 100_000, "not JSON"), ("[]", "not a plan"), ("{}", "not a plan")],
)
def test_what_is_no_plan_is_refused(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=what):
        SavedPlan.load(path)


def test_a_plan_can_t_be_edited_nor_come_from_elsewhere(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.plan()
    data = json.loads(night.file.read_bytes())
    night.file.write_text(json.dumps(data | {"snapshot": {"run": 1}}))
    with pytest.raises(UsageError, match="was changed after it was made"):
        night.apply()
    night.file.write_text(json.dumps(data | {"format": 2, "propsync": "9.0"}))
    with pytest.raises(PlanError, match=r"format 2 \(propsync 9.0\)"):
        night.apply()
    for path in (tmp_path, tmp_path / "gone.json"):
        with pytest.raises(UsageError, match="can't be read"):
            SavedPlan.load(path)
    with pytest.raises(StateError, match=r"gone.*can't be written"):
        SavedPlan(data).write(tmp_path / "gone" / "plan.json")
    assert server.arrays == []


def test_another_version_that_sends_the_same_is_no_difference(
    server: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = night_in(tmp_path, server)
    night.plan()
    monkeypatch.setattr("etl.pipeline.saved_plan.version", lambda _: "9.0")
    monkeypatch.setattr(
        "etl.encoder.encoding.form_objects",
        lambda rows, splice: pc.replace_substring(form_objects(rows, splice), "+", "%20"),
    )
    said = night.refused()
    assert "8 updates have other content" in said
    assert "-> 9.0" in said
    monkeypatch.undo()
    monkeypatch.setattr("etl.pipeline.saved_plan.version", lambda _: "9.0")
    assert night.apply().status == "finished"


def test_a_list_of_applied_plans_that_can_t_be_read_stops_a_run(server: Recorder, tmp_path: Path) -> None:
    night = night_in(tmp_path, server)
    night.job.state_dir.mkdir(parents=True)
    night.plan()
    (night.job.state_dir / "plans.json").write_text("{")
    with pytest.raises(StateError, match=r"plans\.json"):
        night.apply()
    assert server.arrays == []
