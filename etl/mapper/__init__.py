"""Stage 2, MAP: record batches become identifications, shaped as Amplitude takes them, and rejects."""

from __future__ import annotations

from etl.arrow.raw_json import splice_json
from etl.mapper.byte_texts import holds_bytes
from etl.mapper.frames import framed, frames, within
from etl.mapper.hook import load_transform
from etl.mapper.mapper import Mapper

__all__ = ["Mapper", "framed", "frames", "holds_bytes", "load_transform", "splice_json", "within"]
