"""The job file: read, checked, and made a frozen Job."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .api_key import read_api_key, read_secret_key
    from .column_spec import ColumnSpec, Step
    from .identification_spec import Identification
    from .known_job import KnownJob
    from .problems import check_columns, check_repeated, lacking, missing_columns
    from .scalars import ValueType
    from .sections import CsvOptions, Destination
    from .spec import Job, fingerprint, key_fingerprints, parse_job
    from .words import endpoint

_HOMES: Final = {
    "api_key": ("read_api_key", "read_secret_key"),
    "column_spec": ("ColumnSpec", "Step"),
    "identification_spec": ("Identification",),
    "known_job": ("KnownJob",),
    "problems": ("check_columns", "check_repeated", "lacking", "missing_columns"),
    "scalars": ("ValueType",),
    "sections": ("CsvOptions", "Destination"),
    "spec": ("Job", "fingerprint", "key_fingerprints", "parse_job"),
    "words": ("endpoint",),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import what is asked for, and nothing else: `status` needs no pydantic."""
        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f".{home}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
