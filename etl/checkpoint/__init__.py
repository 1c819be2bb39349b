"""Stage 6, COMMIT: what is committed stays committed, whatever happens to the process."""

from .in_flight_file import Flight, InFlightContents, InFlightFile, RunMark, read_in_flight
from .past_runs import PastRun, mark_of
from .sent_file import SentEntries
from .state_dir import RejectKey, StateDir, publish_rejects, reject_key, reject_lines
from .store import Checkpoint, Progress, RunIdentity, past_of

__all__ = [
    "Checkpoint",
    "Flight",
    "InFlightContents",
    "InFlightFile",
    "PastRun",
    "Progress",
    "RejectKey",
    "RunIdentity",
    "RunMark",
    "SentEntries",
    "StateDir",
    "mark_of",
    "past_of",
    "publish_rejects",
    "read_in_flight",
    "reject_key",
    "reject_lines",
]
