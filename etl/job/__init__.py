"""The job file: read, checked, and made a frozen Job."""

from __future__ import annotations

from .api_key import read_api_key as read_api_key
from .api_key import read_secret_key as read_secret_key
from .column_spec import ColumnSpec as ColumnSpec
from .column_spec import Step as Step
from .identification_spec import Identification as Identification
from .problems import check_columns as check_columns
from .problems import check_repeated as check_repeated
from .problems import lacking as lacking
from .problems import missing_columns as missing_columns
from .scalars import ValueType as ValueType
from .sections import CsvOptions as CsvOptions
from .sections import Destination as Destination
from .spec import Job as Job
from .spec import fingerprint as fingerprint
from .spec import key_fingerprints as key_fingerprints
from .spec import parse_job as parse_job
from .words import endpoint as endpoint
