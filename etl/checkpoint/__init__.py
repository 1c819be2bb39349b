"""Stage 6, COMMIT: committed rows stay committed, whatever happens to the process."""

from .database import PastRun as PastRun
from .database import SentEntries as SentEntries
from .database import mark_of as mark_of
from .state_dir import RejectKey as RejectKey
from .state_dir import StateDir as StateDir
from .state_dir import publish_rejects as publish_rejects
from .state_dir import reject_key as reject_key
from .state_dir import reject_lines as reject_lines
from .store import Checkpoint as Checkpoint
from .store import Progress as Progress
from .store import RunIdentity as RunIdentity
from .store import past_of as past_of
