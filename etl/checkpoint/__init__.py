"""Stage 6, SETTLE: what is settled stays settled, whatever happens to the process."""

from etl.checkpoint.folder import StateFolder
from etl.checkpoint.rejects import publish_rejects
from etl.checkpoint.sent import Entries
from etl.checkpoint.store import Checkpoint, Identity, Progress

__all__ = ["Checkpoint", "Entries", "Identity", "Progress", "StateFolder", "publish_rejects"]
