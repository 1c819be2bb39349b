"""Stage 2, MAP: record batches become identifications as Amplitude takes them, and rejects."""

from __future__ import annotations

from .column_values import quoted_counts as quoted_counts
from .mapper import Mapper as Mapper
from .transform_function import framed as framed
from .transform_function import frames as frames
from .transform_function import join_batches as join_batches
from .transform_function import load_transform as load_transform
from .transform_function import within as within
from .typed_values import holds_bytes as holds_bytes
