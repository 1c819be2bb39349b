"""The job file: read, checked, and made a frozen Job."""

from __future__ import annotations

from .api_key import read_api_key, read_secret_key
from .column_spec import ColumnSpec, Step
from .identification_spec import Identification
from .problems import check_columns, check_repeated, lacking, missing_columns
from .scalars import ValueType
from .sections import CsvOptions, Destination
from .spec import (
    Job,
    fingerprint,
    key_fingerprints,
    parse_job,
)
from .words import endpoint

__all__ = [
    "ColumnSpec",
    "CsvOptions",
    "Destination",
    "Identification",
    "Job",
    "Step",
    "ValueType",
    "check_columns",
    "check_repeated",
    "endpoint",
    "fingerprint",
    "key_fingerprints",
    "lacking",
    "missing_columns",
    "parse_job",
    "read_api_key",
    "read_secret_key",
]
