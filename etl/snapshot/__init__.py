"""Stage 3, DIFF: what Amplitude has already isn't sent again."""

from etl.snapshot.bit_set import BitSet
from etl.snapshot.comparison import DeviceLinks, UnchangedUsers, device_owners
from etl.snapshot.diff import DiffedBatch, Differ
from etl.snapshot.file import Snapshot
from etl.snapshot.final_changes import FinalChanges
from etl.snapshot.fingerprints import fingerprints_of
from etl.snapshot.known_ids import AbsentUsers, KnownIds, KnownIdsWriter, SeenUsers
from etl.snapshot.layout import FieldGroup, Layout, layout_of
from etl.snapshot.sorted_file import SnapshotHeader
from etl.snapshot.spill_buffer import DistinctUsers
from etl.snapshot.writer import SnapshotWriter

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
