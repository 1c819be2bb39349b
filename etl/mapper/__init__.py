"""Stage 2, MAP: record batches become identifications as Amplitude takes them, and rejects."""

from __future__ import annotations

from ..arrow.json_lines import splice_json
from .column_values import quoted_counts
from .mapper import Mapper
from .transform_function import framed, frames, join_batches, load_transform, within
from .typed_values import holds_bytes

__all__ = [
    "Mapper",
    "framed",
    "frames",
    "holds_bytes",
    "join_batches",
    "load_transform",
    "quoted_counts",
    "splice_json",
    "within",
]
