"""Stage 3, DIFF: what Amplitude has already isn't sent again."""

from etl.snapshot.bits import Bits
from etl.snapshot.differ import Compared, Differ
from etl.snapshot.distinct import DistinctUsers
from etl.snapshot.final_changes import FinalChanges
from etl.snapshot.fingerprints import fingerprints_of
from etl.snapshot.ids import IdsRenewal, KnownIds
from etl.snapshot.layout import Bundle, Layout, layout_of
from etl.snapshot.links import Links, owners_of
from etl.snapshot.presence import Absent, Presence
from etl.snapshot.renewal import Renewal
from etl.snapshot.snapshot_file import Snapshot
from etl.snapshot.stamp import Stamp
from etl.snapshot.unchanged import Unchanged

__all__ = [
    "Absent",
    "Bits",
    "Bundle",
    "Compared",
    "Differ",
    "DistinctUsers",
    "FinalChanges",
    "IdsRenewal",
    "KnownIds",
    "Layout",
    "Links",
    "Presence",
    "Renewal",
    "Snapshot",
    "Stamp",
    "Unchanged",
    "fingerprints_of",
    "layout_of",
    "owners_of",
]
