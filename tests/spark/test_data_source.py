"""The format `propsync` in a real Spark session on this machine; judged by what arrived at a sandbox.

Run by `make spark`, since it needs Java and the extra `spark`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.parquet as pq
import pytest

from etl import Job, run
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.commands import KEY, until
from tests.docs.pages import DOCS, blocks
from tests.docs.playing import SHOWN_URL, fits
from tests.spark.test_task import COUNTING

pytestmark = pytest.mark.spark
pytest.importorskip("pyspark", reason="needs the extra `spark`: make spark")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java 17 or newer", allow_module_level=True)

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as in Spark's own pages

from etl.spark import PropsyncDataSource

Said: TypeAlias = Callable[[str], re.Match[str]]
USERS = 700
EXPECTED = {f"user-{n}": 3 * n + 3 * USERS for n in range(USERS)}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("terminal") / "stderr"


@pytest.fixture(scope="module")
def spark(events: Path, terminal: Path) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("AMPLITUDE_API_KEY", KEY)
        with terminal.open("ab") as file:  # what Spark's processes inherit
            before = os.dup(2)
            os.dup2(file.fileno(), 2)
        session = (
            SparkSession.builder.master("local[2, 4]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.sql.shuffle.partitions", "4")
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", "100")
            .config("spark.eventLog.enabled", "true")
            .config("spark.eventLog.dir", str(events))
            .config("spark.eventLog.compress", "false")
            .getOrCreate()
        )
        os.dup2(before, 2)
        os.close(before)
        session.sparkContext.setLogLevel("OFF")
        session.dataSource.register(PropsyncDataSource)
        yield session
        session.stop()


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yml"
    path.write_text(COUNTING)
    return path


def export(spark: SparkSession, rows: int = 3 * USERS) -> DataFrame:
    user = F.concat(F.lit("user-"), F.col("id") % USERS)
    return spark.range(rows).select(
        user.alias("user_id"), F.lit("pro").alias("plan"), F.col("id").alias("points")
    )


def ordered(frame: DataFrame, tasks: int = 4) -> DataFrame:
    return frame.repartition(tasks, "user_id").sortWithinPartitions("user_id", "points")


def write(frame: DataFrame, job: Path, sandbox: Sandbox, **options: object) -> None:
    writer = frame.write.format("propsync").mode("append")
    for name, value in {"job": job, "endpoint": sandbox.url, "rate": "max", **options}.items():
        writer = writer.option(name, str(value))
    writer.save()


@pytest.fixture
def said(terminal: Path) -> Said:
    """Finds what a process of Spark's wrote during the test; it comes a moment after the write has ended."""
    before = len(terminal.read_text())

    def find(pattern: str) -> re.Match[str]:
        until(lambda: re.search(pattern, terminal.read_text()[before:]) is not None, 10)
        match = re.search(pattern, terminal.read_text()[before:])
        assert match is not None
        return match

    return find


def points(sandbox: Sandbox) -> dict[str, Any]:
    return {user: profile.properties.get("points") for user, profile in sandbox.profiles.users.items()}


def test_every_row_arrives_once(spark: SparkSession, sandbox: Sandbox, job: Path, said: Said) -> None:
    write(ordered(export(spark)), job, sandbox)
    assert points(sandbox) == EXPECTED
    counts = "  2,100 rows: 700 accepted, 0 unchanged, 1,400 merged, 0 rejected; 4 of 4 tasks"
    assert said(rf"propsync: job, run [0-9a-f]{{32}}: finished\n{counts}\n")


@pytest.mark.parametrize("end", ["an error", "a kill"])
def test_a_task_that_is_tried_again_counts_once(
    spark: SparkSession, sandbox: Sandbox, job: Path, tmp_path: Path, end: str
) -> None:
    once = str(tmp_path / "once")

    def fail_once(batches: Iterator[Any]) -> Iterator[Any]:
        for number, batch in enumerate(batches):
            if number == 4 and not Path(once).exists():
                Path(once).touch()
                time.sleep(1.0)  # the batches before have been sent
                if end == "a kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RuntimeError(end)
            yield batch

    frame = ordered(export(spark))
    write(frame.mapInArrow(fail_once, frame.schema), job, sandbox, batch_size=20)
    assert points(sandbox) == EXPECTED
    assert Path(once).exists()


def test_a_worker_that_is_killed_while_it_sends_counts_once(
    spark: SparkSession, job: Path, tmp_path: Path, said: Said
) -> None:
    """The sandbox is slow, and once it has some events the process that sends them is killed."""
    with running_sandbox(SandboxOptions(latency=0.1)) as sandbox:
        killed = tmp_path / "killed"
        code = KILLER.format(port=sandbox.url.rpartition(":")[2])
        killer = subprocess.Popen([sys.executable, "-c", code, str(killed)])
        try:
            write(ordered(export(spark), 2), job, sandbox, batch_size=20, concurrency=2)
            assert killer.wait(30) == 0
        finally:
            killer.kill()
        assert killed.read_text() == "killed"
        assert points(sandbox) == EXPECTED
        assert sandbox.stats.repeated_inserts > 0
    assert said("finished")


def test_a_task_that_fails_for_good_says_what_arrived_all_the_same(
    spark: SparkSession, sandbox: Sandbox, job: Path, said: Said
) -> None:
    first = ordered(export(spark))
    failing = first.filter(
        F.when(F.spark_partition_id() == 3, F.raise_error(F.lit("gone")).isNull()).otherwise(F.lit(True))
    )
    with pytest.raises(Exception, match="gone"):
        write(failing, job, sandbox)
    again = said(r'failed\n  ([1-9][\d,]*) rows: .*\n.*\n  .option\("run_id", "([0-9a-f]{32})"\)')
    arrived = len(points(sandbox))
    assert 0 < arrived < USERS
    write(first, job, sandbox, run_id=again[2])
    assert points(sandbox) == EXPECTED
    assert sandbox.stats.repeated_inserts == arrived


def test_bad_rows_are_in_the_rejects(
    spark: SparkSession, sandbox: Sandbox, job: Path, tmp_path: Path, said: Said
) -> None:
    bad = spark.createDataFrame(
        [("x", "pro", 1), ("user-x", "pro", 2)], "user_id string, plan string, points long"
    )
    folder = tmp_path / "rejects"
    write(ordered(bad, 2), job, sandbox, rejects_path=folder)
    (reject,) = pq.read_table(folder).to_pylist()
    assert (reject["code"], reject["source"][:9]) == ("short_id", "partition")
    assert spark.read.parquet(str(folder)).columns == ["source", "row", "code", "reason", "values"]
    assert points(sandbox) == {"user-x": 2}
    assert said("  rejects: 1 short_id; the files part-")
    with pytest.raises(Exception, match="1 of 2 rows were rejected, and max_rejects is 10%"):
        write(ordered(bad, 2), job, sandbox, max_rejects="10%")


def test_one_rate_holds_for_all_tasks(spark: SparkSession, sandbox: Sandbox, job: Path) -> None:
    write(ordered(export(spark)), job, sandbox, rate=400, batch_size=20)
    records = sorted(record.received for record in sandbox.requests)
    assert records[-1] - records[0] > (USERS - 100) / 400 - 0.5
    assert len(points(sandbox)) == USERS


def test_throttling_is_waited_for(spark: SparkSession, job: Path) -> None:
    options = SandboxOptions(hot_users=frozenset({"user-1"}), hot_tries=3, retry_after=0.2)
    with running_sandbox(options) as sandbox:
        write(ordered(export(spark)), job, sandbox, batch_size=50)
        assert points(sandbox) == EXPECTED
        assert sandbox.stats.statuses[429] > 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        # Sorted, since the first partition fits any number of them: it would only see ids that descend.
        (
            lambda frame: frame.repartition(4).sortWithinPartitions("user_id", "points"),
            "users that belong to other tasks",
        ),
        (lambda frame: ordered(frame).sortWithinPartitions(F.col("user_id").desc()), "do not ascend"),
        # One task has one user, and the other the rest: that shows only when both are done.
        (
            lambda frame: frame.repartitionByRange(2, F.col("user_id") == "user-5").sortWithinPartitions(
                "user_id", "points"
            ),
            "may have been in several tasks",
        ),
    ],
)
def test_rows_of_a_user_in_several_tasks_are_refused(
    spark: SparkSession, sandbox: Sandbox, job: Path, make: Any, words: str
) -> None:
    with pytest.raises(Exception, match="PropsyncSparkError") as refused:
        write(make(export(spark)), job, sandbox)
    assert words in str(refused.value)
    assert 'df.repartition(n, "user_id").sortWithinPartitions("user_id", "updated_at")' in str(refused.value)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (COUNTING.replace("batch", "identify"), {}, "transport: batch"),
        (COUNTING, {"Batch_Sise": "5"}, "did you mean `batch_size`?"),
        ("identification: 5", {}, "job.yml:1"),
    ],
)
def test_what_can_not_be_sent_is_refused_on_the_driver(
    spark: SparkSession, sandbox: Sandbox, job: Path, text: str, options: dict[str, str], words: str
) -> None:
    job.write_text(text)
    with pytest.raises(Exception, match=r"\bpropsync\.spark\.PropsyncSparkError: ") as refused:
        write(ordered(export(spark)), job, sandbox, **options)
    assert words in str(refused.value)
    assert "during handling" not in str(refused.value).lower()
    assert not sandbox.profiles.users


def test_users_can_not_be_overwritten(spark: SparkSession, job: Path) -> None:
    with pytest.raises(Exception, match="append"):
        ordered(export(spark)).write.format("propsync").option("job", str(job)).mode("overwrite").save()


def test_a_refused_key_fails_the_write_and_is_not_shown(spark: SparkSession, job: Path) -> None:
    with (
        running_sandbox(SandboxOptions(api_keys=frozenset({"another"}), echo_key=True)) as sandbox,
        pytest.raises(Exception, match="refuses the API key") as refused,
    ):
        write(ordered(export(spark)), job, sandbox)
    assert KEY not in str(refused.value)


def test_the_key_is_in_no_event_log_and_no_plan(
    spark: SparkSession, sandbox: Sandbox, job: Path, events: Path, terminal: Path
) -> None:
    frame = ordered(export(spark))
    write(frame, job, sandbox)
    frame.explain("extended")
    store = spark._jsparkSession.sharedState().statusStore()
    executions = store.executionsList()
    shown = [executions.apply(n).physicalPlanDescription() for n in range(executions.size())]
    assert any("propsync" in text.lower() for text in shown)
    logs = [file.read_bytes() for file in events.rglob("*") if file.is_file()]
    assert sum(map(len, logs)) > 100_000
    everything = b"".join(logs) + "".join(shown).encode() + terminal.read_bytes()
    assert KEY.encode() not in everything


def test_a_data_frame_is_a_source_of_a_run(spark: SparkSession, sandbox: Sandbox, tmp_path: Path) -> None:
    counting = Job.load(write_job(tmp_path))
    summary = run(counting, export(spark), key=KEY, endpoint=sandbox.url, rate=None)
    assert (summary.tally.rows, summary.status) == (3 * USERS, "finished")
    assert points(sandbox) == EXPECTED


def test_what_spark_wrote_as_parquet_is_a_source_of_a_run(
    spark: SparkSession, sandbox: Sandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    ordered(export(spark)).write.parquet(str(folder))
    counting = Job.load(write_job(tmp_path))
    summary = run(counting, str(folder), key=KEY, endpoint=sandbox.url, rate=None)
    assert (summary.tally.rows, summary.status) == (3 * USERS, "finished")
    assert points(sandbox) == EXPECTED


def write_job(folder: Path) -> Path:
    path = folder / "job.yml"
    path.write_text(COUNTING)
    return path


def test_the_page_says_what_its_examples_do(
    spark: SparkSession, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMPLITUDE_API_KEY", KEY)
    names: dict[str, Any] = {"spark": spark}
    printed = io.StringIO()
    for block in blocks(DOCS / "spark.md"):
        if block.language == "python":
            code = re.sub(r"^spark = .*", "", block.text.replace(SHOWN_URL, sandbox.url), flags=re.MULTILINE)
            # Spark began in another folder.
            code = re.sub('"(job.yml|export|rejects)"', rf'"{tmp_path}/\1"', code)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, block.page, "exec"), names)
        elif block.note == "output":
            assert fits(block.text, printed.getvalue()), printed.getvalue()
        elif block.note == "written":
            assert said(re.escape(block.text).replace(r"\.\.\.", "[0-9a-f]+"))
        elif block.note:
            (tmp_path / block.note).write_text(block.text)
    visits = {user: profile.properties["visits"] for user, profile in sandbox.profiles.users.items()}
    assert visits == {"user-1001": 3 * 3, "user-1002": 3 * 4}  # sent three times


# Ends the first process that has a connection to the port and has sent for half a second; on Linux.
KILLER = """
import os, re, signal, sys, time
from pathlib import Path

def senders():
    port = f":{{{port}:04X}}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {{f"socket:[{{line[9]}}]" for line in lines if line[2].endswith(port) and line[3] == "01"}}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and b"pyspark.daemon" in (folder / "cmdline").read_bytes():
                if sockets & {{os.readlink(one) for one in (folder / "fd").iterdir()}}:
                    yield int(folder.name)
        except OSError:
            pass

end = time.monotonic() + 30
while time.monotonic() < end:
    for process in senders():
        time.sleep(0.4)
        os.kill(process, signal.SIGKILL)
        Path(sys.argv[1]).write_text("killed")
        raise SystemExit(0)
    time.sleep(0.01)
raise SystemExit(1)
"""
