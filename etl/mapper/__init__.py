"""Stage 2, MAP: record batches become identifications as Amplitude takes them, and rejects."""

from __future__ import annotations

from etl.arrow.json_lines import splice_json
from etl.mapper.mapper import Mapper
from etl.mapper.transform_function import framed, frames, load_transform, within
from etl.mapper.typed_values import holds_bytes

__all__ = ["Mapper", "framed", "frames", "holds_bytes", "load_transform", "splice_json", "within"]
