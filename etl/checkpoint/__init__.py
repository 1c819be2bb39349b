"""Stage 6, COMMIT: what is committed stays committed, whatever happens to the process."""

from etl.checkpoint.folder import StateFolder
from etl.checkpoint.in_flight import Flight, InFlight, Left, RunMark, left_by
from etl.checkpoint.past import PastRun, mark_of
from etl.checkpoint.rejects import publish_rejects, reject_lines
from etl.checkpoint.sent import Entries
from etl.checkpoint.store import Checkpoint, Identity, Progress, past_of

__all__ = [
    "Checkpoint",
    "Entries",
    "Flight",
    "Identity",
    "InFlight",
    "Left",
    "PastRun",
    "Progress",
    "RunMark",
    "StateFolder",
    "left_by",
    "mark_of",
    "past_of",
    "publish_rejects",
    "reject_lines",
]
