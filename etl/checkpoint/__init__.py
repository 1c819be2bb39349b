"""Stage 6, COMMIT: what is committed stays committed, whatever happens to the process."""

from .past_runs import PastRun, mark_of
from .state_dir import RejectKey, StateDir, publish_rejects, reject_key, reject_lines
from .store import Checkpoint, Progress, RunIdentity, past_of

__all__ = [
    "Checkpoint",
    "PastRun",
    "Progress",
    "RejectKey",
    "RunIdentity",
    "StateDir",
    "mark_of",
    "past_of",
    "publish_rejects",
    "reject_key",
    "reject_lines",
]
