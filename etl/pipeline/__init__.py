"""The way of a job's rows, from the source to the committed checkpoint, and the calls that start it."""

from .baseline import Recorded, record_baseline
from .explain import Explanation, explain_user
from .figures import Changed
from .plan import Plan, plan_job
from .preview import PreviewedRow, first_rows, preview_rows, sampled_rows
from .row_pipeline import RowPipeline
from .run import run_job
from .settings import RejectLimit, RowMinimum, Settings
from .status import status_of

__all__ = [
    "Changed",
    "Explanation",
    "Plan",
    "PreviewedRow",
    "Recorded",
    "RejectLimit",
    "RowMinimum",
    "RowPipeline",
    "Settings",
    "explain_user",
    "first_rows",
    "plan_job",
    "preview_rows",
    "record_baseline",
    "run_job",
    "sampled_rows",
    "status_of",
]
