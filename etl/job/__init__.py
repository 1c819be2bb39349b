"""The job file: read, checked, and made a frozen Job."""

from __future__ import annotations

from etl.job.api_key import read_api_key
from etl.job.column_spec import ColumnSpec, Step
from etl.job.columns import check_columns, check_repeated, lacking, missing_columns
from etl.job.fingerprint import fingerprint
from etl.job.identification_spec import Identification
from etl.job.scalars import ValueType
from etl.job.spec import CsvOptions, Destination, Job, job_from_dict, load_job, parse_job
from etl.job.words import endpoint

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
