"""A checked shape becomes the frozen Job. The order of keys in a file changes nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from etl import amplitude
from etl.job.bare import is_blank
from etl.job.column_rules import Place, kind, value_type
from etl.job.constants import json_text
from etl.job.findings import Path as Place_
from etl.job.findings import line_of
from etl.job.schema import ColumnShape, IdentificationShape, JobShape, OperatorsShape
from etl.job.spec import ColumnSpec, CsvOptions, Destination, Identification, Job
