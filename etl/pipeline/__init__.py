"""The way of a job's rows, from the source to the committed checkpoint, and the calls that start it."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .baseline import Recorded as Recorded
    from .baseline import record_baseline as record_baseline
    from .explain import Explanation as Explanation
    from .explain import explain_user as explain_user
    from .figures import Changed as Changed
    from .plan import Plan as Plan
    from .plan import plan_job as plan_job
    from .preview import PreviewedRow as PreviewedRow
    from .preview import first_rows as first_rows
    from .preview import preview_rows as preview_rows
    from .preview import sampled_rows as sampled_rows
    from .row_pipeline import RowPipeline as RowPipeline
    from .run import run_job as run_job
    from .settings import RejectLimit as RejectLimit
    from .settings import RowMinimum as RowMinimum
    from .settings import Settings as Settings
    from .status import status_of as status_of

_HOMES: Final = {
    "baseline": ("Recorded", "record_baseline"),
    "explain": ("Explanation", "explain_user"),
    "figures": ("Changed",),
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
