"""Stage 3, DIFF: leaves out what Amplitude has already."""

from ..snapshot_metadata import SnapshotHeader as SnapshotHeader
from .comparison import DeviceLinks as DeviceLinks
from .comparison import FinalChanges as FinalChanges
from .comparison import SeenUsers as SeenUsers
from .comparison import add_unchanged as add_unchanged
from .comparison import device_owners as device_owners
from .diff import DiffedBatch as DiffedBatch
from .diff import Differ as Differ
from .file import KnownIds as KnownIds
from .file import KnownIdsWriter as KnownIdsWriter
from .file import Snapshot as Snapshot
from .file import SnapshotWriter as SnapshotWriter
from .fingerprints import FieldGroup as FieldGroup
from .fingerprints import Layout as Layout
from .fingerprints import fingerprints_of as fingerprints_of
from .fingerprints import layout_of as layout_of
from .sorted_file import BitSet as BitSet
from .sorted_file import KeyFilter as KeyFilter
from .spill_buffer import DistinctUsers as DistinctUsers
