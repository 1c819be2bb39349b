"""Stage 3, DIFF: what Amplitude has already isn't sent again."""

from .bit_set import BitSet
from .comparison import DeviceLinks, UnchangedUsers, device_owners
from .diff import DiffedBatch, Differ
from .file import Snapshot
from .final_changes import FinalChanges
from .fingerprints import fingerprints_of
from .known_ids import AbsentUsers, KnownIds, KnownIdsWriter, SeenUsers
from .layout import FieldGroup, Layout, layout_of
from .sorted_file import SnapshotHeader
from .spill_buffer import DistinctUsers
from .writer import SnapshotWriter

__all__ = [
    "AbsentUsers",
    "BitSet",
    "DeviceLinks",
    "DiffedBatch",
    "Differ",
    "DistinctUsers",
    "FieldGroup",
    "FinalChanges",
    "KnownIds",
    "KnownIdsWriter",
    "Layout",
    "SeenUsers",
    "Snapshot",
    "SnapshotHeader",
    "SnapshotWriter",
    "UnchangedUsers",
    "device_owners",
    "fingerprints_of",
    "layout_of",
]
