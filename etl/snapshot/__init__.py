"""Stage 3, DIFF: what Amplitude has already isn't sent again."""

from ..snapshot_metadata import SnapshotHeader
from .bit_set import BitSet, KeyFilter
from .comparison import DeviceLinks, FinalChanges, UnchangedUsers, device_owners
from .diff import DiffedBatch, Differ
from .file import Snapshot, SnapshotWriter
from .fingerprints import FieldGroup, Layout, fingerprints_of, layout_of
from .known_ids import KnownIds, KnownIdsWriter, SeenUsers
from .spill_buffer import DistinctUsers

__all__ = [
    "BitSet",
    "DeviceLinks",
    "DiffedBatch",
    "Differ",
    "DistinctUsers",
    "FieldGroup",
    "FinalChanges",
    "KeyFilter",
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
