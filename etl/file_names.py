"""What the end of a file's name says of it: its format, and whether it is packed."""

from __future__ import annotations

from typing import Final

from etl.model import Format

_FORMATS: Final[dict[str, Format]] = {
    "csv": "csv", "tsv": "csv", "txt": "csv",
    "parquet": "parquet", "pq": "parquet",
    "ndjson": "ndjson", "jsonl": "ndjson", "json": "ndjson",
}  # fmt: skip
PACKED: Final = {"gz": "gzip", "zst": "zstd", "bz2": "bz2", "lz4": "lz4", "br": "brotli"}


def format_and_codec(name: str) -> tuple[Format | None, str | None]:
    """The format that the end of a name tells, and what the file is packed with; None where it tells none."""
    parts = name.lower().rpartition("/")[2].split(".")[1:]
    codec = PACKED.get(parts.pop()) if parts and parts[-1] in PACKED else None
    return (_FORMATS.get(parts[-1]) if parts else None), codec


def format_named(name: str) -> Format | None:
    """The format that the end of a name tells, packed or not."""
    return format_and_codec(name)[0]
