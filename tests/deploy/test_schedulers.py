"""The examples for Airflow and Dagster, run by Airflow and Dagster against a sandbox.

Each has an environment of its own, in `.schedulers/` of the checkout, with propsync beside it; both take about
two minutes and 800 MB to install, once. `make schedulers` runs this; `make test` does not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl.checkpoint import StateDir
from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.commands import KEY, REPOSITORY

pytestmark = [pytest.mark.schedulers, pytest.mark.timeout(900)]
ENVIRONMENTS = REPOSITORY / ".schedulers"
PACKAGES = {"airflow": "apache-airflow==3.3.*", "dagster": "dagster==1.13.*"}
ACTIVE, COUNTER = 6, 4

AIRFLOW = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import propsync_dags
dag = {"command": propsync_dags.propsync_command, "call": propsync_dags.propsync_call}[sys.argv[2]]()
for task in dag.tasks:
    task.retries = 0
run = dag.test()
(task,) = run.get_task_instances()
from airflow.models.xcom import XComModel
print("told:" + json.dumps({"state": task.state, "run": str(run.state)}))
"""
DAGSTER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from dagster import DagsterEventType, materialize
import propsync_assets
result = materialize([propsync_assets.amplitude_user_properties], raise_on_error=False)
kinds = [event.event_type_value for event in result.all_events]
metadata = {}
if result.success:
    (event,) = result.get_asset_materialization_events()
    metadata = {name: value.value for name, value in event.materialization.metadata.items()}
else:
    failure = [event for event in result.all_events if event.event_type == DagsterEventType.STEP_FAILURE][0]
    metadata = {name: value.value for name, value in failure.event_specific_data.user_failure_data.metadata.items()}
print("told:" + json.dumps({"success": result.success, "retries": kinds.count("STEP_UP_FOR_RETRY"), **metadata}))
"""
