"""The way of a job's rows, from the source to the committed checkpoint, and the calls that start it."""

from etl.pipeline.baseline import Recorded, record_baseline
from etl.pipeline.plan import Changed, Plan, plan_job, preview_rows
from etl.pipeline.row_pipeline import RowPipeline
from etl.pipeline.run import run_job
from etl.pipeline.settings import RejectLimit, RowMinimum, Settings
from etl.pipeline.status import status_of

__all__ = [
    "Changed",
    "Plan",
    "Recorded",
    "RejectLimit",
    "RowMinimum",
    "RowPipeline",
    "Settings",
    "plan_job",
    "preview_rows",
    "record_baseline",
    "run_job",
    "status_of",
]
