"""The job file: read, checked in one go, and made a frozen Job."""

from __future__ import annotations

from etl.job.api_key import read_api_key
from etl.job.columns import check_columns, check_repeated, lacking, missing_columns
from etl.job.fingerprint import fingerprint
from etl.job.loader import job_from_dict, load_job, parse_job
from etl.job.notation import endpoint
from etl.job.spec import ColumnSpec, CsvOptions, Destination, Identification, Job, Step, ValueType

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
    "job_from_dict",
    "lacking",
    "load_job",
    "missing_columns",
    "parse_job",
    "read_api_key",
]
