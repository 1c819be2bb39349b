"""The format `propsync` in Spark sessions of other kinds, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.commands import KEY
from tests.spark.test_task import COUNTING

pytestmark = pytest.mark.spark
pytest.importorskip("pyspark", reason="needs the extra `spark`: make spark")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java 17 or newer", allow_module_level=True)


@pytest.mark.parametrize("master", ["local[1]", "local-cluster[2,1,512]"])
def test_in_a_session_of_its_own(sandbox: Sandbox, tmp_path: Path, master: str) -> None:
    """Executors that are processes of their own find the driver; speculation is refused."""
    job = tmp_path / "job.yml"
    job.write_text(COUNTING)
    done = subprocess.run(
        [sys.executable, "-c", OWN_SESSION, master, str(job), sandbox.url],
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "AMPLITUDE_API_KEY": KEY},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,  # executors start slowly where both cores are busy
        check=False,
    )
    if master == "local[1]":
        assert "PropsyncSparkError: spark.speculation is true" in done.stderr
        assert not sandbox.profiles.users
    else:
        assert "1,000 rows: 1,000 accepted" in done.stderr, done.stderr
        assert len(sandbox.profiles.users) == 1000
    assert KEY not in done.stdout + done.stderr


OWN_SESSION = """
import sys
from pyspark.sql import SparkSession
from etl.spark import PropsyncDataSource

master, job, url = sys.argv[1:]
session = SparkSession.builder.master(master).config("spark.ui.enabled", "false")
session = session.config("spark.driver.host", "127.0.0.1").config("spark.executor.memory", "512m")
spark = session.config("spark.speculation", str(master == "local[1]").lower()).getOrCreate()
spark.dataSource.register(PropsyncDataSource)
users = spark.range(1000).selectExpr("concat('user-', id) user_id", "'pro' plan", "id points")
users = users.repartition(4, "user_id").sortWithinPartitions("user_id", "points").write.format("propsync")
users.option("job", job).option("endpoint", url).option("rate", "5000").mode("append").save()
"""
