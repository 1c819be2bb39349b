"""Stage 3, DIFF: what Amplitude has already isn't sent again."""

from etl.changes.bits import Bits
from etl.changes.differ import Compared, Differ
from etl.changes.distinct import DistinctUsers
from etl.changes.final_changes import FinalChanges
from etl.changes.ids import IdsRenewal, KnownIds
from etl.changes.layout import Bundle, Layout, layout_of
from etl.changes.links import Links, owners_of
from etl.changes.presence import Absent, Presence
from etl.changes.prints import prints_of
from etl.changes.renewal import Renewal
from etl.changes.snapshot import Snapshot
from etl.changes.stamp import Stamp
from etl.changes.unchanged import Unchanged

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
    "layout_of",
    "owners_of",
    "prints_of",
]
