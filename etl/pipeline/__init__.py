"""The journey of a job's rows, and the ways to begin it."""

from etl.pipeline.baseline import Recorded, baseline
from etl.pipeline.changed import Changed
from etl.pipeline.rehearse import Forecast, forecast, preview
from etl.pipeline.run import run_job
from etl.pipeline.settings import RejectLimit, RowMinimum, Settings
from etl.pipeline.status import status_of

__all__ = [
    "Changed",
    "Forecast",
    "Recorded",
    "RejectLimit",
    "RowMinimum",
    "Settings",
    "baseline",
    "forecast",
    "preview",
    "run_job",
    "status_of",
]
