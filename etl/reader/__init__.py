"""Stage 1, READ: the rows of any source as record batches, every row with its place."""

from __future__ import annotations

from .source import Source, open_source

__all__ = ["Source", "open_source"]
