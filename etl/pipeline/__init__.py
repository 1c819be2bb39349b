"""The way of a job's rows, from the source to the committed checkpoint, and the calls that start it."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .baseline import Recorded, record_baseline
    from .explain import Explanation, explain_user
    from .plan import Plan, plan_job
    from .preview import PreviewedRow, first_rows, preview_rows, sampled_rows
    from .row_pipeline import RowPipeline
    from .run import run_job
    from .settings import RejectLimit, RowMinimum, Settings
    from .status import status_of

_HOMES: Final = {
    "baseline": ("Recorded", "record_baseline"),
    "explain": ("Explanation", "explain_user"),
    "plan": ("Plan", "plan_job"),
    "preview": ("PreviewedRow", "first_rows", "preview_rows", "sampled_rows"),
    "row_pipeline": ("RowPipeline",),
    "run": ("run_job",),
    "settings": ("RejectLimit", "RowMinimum", "Settings"),
    "status": ("status_of",),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import what is asked for, and nothing else: a command needs one of these."""
        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f".{home}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
