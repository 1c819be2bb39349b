"""The format `propsync` in a real Spark session on this machine; judged by what arrived at a sandbox."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from etl.sandbox import Sandbox, SandboxOptions, running_sandbox

pytest.importorskip("pyspark", reason="needs the extra `spark`")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java 17", allow_module_level=True)

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as in Spark's own pages

from etl.spark import PropsyncDataSource, PropsyncSparkError
from tests.commands import KEY

USERS = 700
COUNTING = """
destination: {transport: batch}
identification:
  user_id: user_id
  user_properties:
    $set: {plan: plan}
    $add: {points: {column: points, type: integer}}
"""


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("AMPLITUDE_API_KEY", KEY)
        session = (
            SparkSession.builder.master("local[2, 4]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.task.maxFailures", "4")
            .config("spark.sql.shuffle.partitions", "4")
            .getOrCreate()
        )
        session.sparkContext.setLogLevel("OFF")
        session.dataSource.register(PropsyncDataSource)
        yield session
        session.stop()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(SandboxOptions(record=True)) as running:
        yield running


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
    given = {"job": job, "endpoint": sandbox.url, "rate": "max", "rate_host": "127.0.0.1", **options}
    for name, value in given.items():
        writer = writer.option(name, str(value))
    writer.save()


def points(sandbox: Sandbox) -> dict[str, Any]:
    return {user: profile.properties.get("points") for user, profile in sandbox.profiles.users.items()}


EXPECTED = {f"user-{n}": 3 * n + 3 * USERS for n in range(USERS)}


def test_every_row_arrives_once(spark: SparkSession, sandbox: Sandbox, job: Path) -> None:
    write(ordered(export(spark)), job, sandbox)
    assert points(sandbox) == EXPECTED
    assert sandbox.stats.concurrent_users == 0


def test_a_task_that_fails_once_counts_once(
    spark: SparkSession, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    failed = str(tmp_path / "failed")

    def fail_once(batches: Iterator[Any]) -> Iterator[Any]:
        for number, batch in enumerate(batches):
            if number == 4 and not Path(failed).exists():
                Path(failed).touch()
                time.sleep(1.0)  # the batches before have been sent
                raise RuntimeError("once")
            yield batch

    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "100")
    frame = ordered(export(spark))
    write(frame.mapInArrow(fail_once, frame.schema), job, sandbox, batch_size=20)
    assert points(sandbox) == EXPECTED
    assert sandbox.stats.repeated_inserts > 0


def test_a_worker_that_is_killed_counts_once(
    spark: SparkSession, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    killed = str(tmp_path / "killed")

    def die_once(batches: Iterator[Any]) -> Iterator[Any]:
        for number, batch in enumerate(batches):
            if number == 4 and not Path(killed).exists():
                Path(killed).touch()
                time.sleep(1.0)
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "100")
    frame = ordered(export(spark))
    write(frame.mapInArrow(die_once, frame.schema), job, sandbox, batch_size=20)
    assert points(sandbox) == EXPECTED


def test_bad_rows_are_in_the_rejects(
    spark: SparkSession, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    bad = spark.createDataFrame(
        [("x", "pro", 1), ("user-x", "pro", 2)], "user_id string, plan string, points long"
    )
    folder = tmp_path / "rejects"
    write(ordered(bad, 2), job, sandbox, rejects_path=folder)
    (reject,) = pq.read_table(folder).to_pylist()
    assert (reject["code"], reject["source"][:9]) == ("short_id", "partition")
    assert points(sandbox) == {"user-x": 2}


def test_one_rate_holds_for_all_tasks(spark: SparkSession, sandbox: Sandbox, job: Path) -> None:
    write(ordered(export(spark, 2000)), job, sandbox, rate=400, batch_size=20)
    records = sorted(record.received for record in sandbox.requests)
    assert records[-1] - records[0] > (USERS - 100) / 400 - 0.5
    assert len(points(sandbox)) == USERS


def test_throttling_is_waited_for(spark: SparkSession, job: Path) -> None:
    with running_sandbox(SandboxOptions(identifications_per_second=500, retry_after=0.2)) as sandbox:
        write(ordered(export(spark)), job, sandbox, batch_size=50)
        assert points(sandbox) == EXPECTED
        assert sandbox.stats.throttled > 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda frame: frame.repartition(4), 'repartition(n, "user_id").sortWithinPartitions('),
        (lambda frame: ordered(frame).sortWithinPartitions(F.col("user_id").desc()), "sortWithinPartitions("),
    ],
)
def test_rows_of_a_user_in_several_tasks_are_refused(
    spark: SparkSession, sandbox: Sandbox, job: Path, make: Any, words: str
) -> None:
    with pytest.raises(Exception, match="PropsyncSparkError") as refused:
        write(make(export(spark)), job, sandbox)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (COUNTING.replace("batch", "identify"), {}, "transport: batch"),
        (COUNTING, {"colour": "blue"}, "unknown option colour"),
        (COUNTING, {"run_id": "1"}, "run_id is '1'"),
        (COUNTING.replace("column: points", "column: score"), {}, "no column score"),
        ("identification: 5", {}, "job.yml:1"),
    ],
)
def test_what_can_not_be_sent_is_refused_on_the_driver(
    spark: SparkSession, sandbox: Sandbox, job: Path, text: str, options: dict[str, str], words: str
) -> None:
    job.write_text(text)
    with pytest.raises(Exception, match="PropsyncSparkError") as refused:
        write(ordered(export(spark)), job, sandbox, **options)
    assert words in str(refused.value)
    assert not sandbox.profiles.users


def test_speculation_is_refused(spark: SparkSession) -> None:
    spark.sparkContext._conf.set("spark.speculation", "true")  # type: ignore[attr-defined]
    spark.conf.set("spark.speculation", "true")
    try:
        with pytest.raises(PropsyncSparkError, match="speculation"):
            spark.dataSource.register(PropsyncDataSource)
    finally:
        spark.conf.unset("spark.speculation")
