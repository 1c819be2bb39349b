"""The fingerprint of a job: the same for two jobs that send the same of the same rows, and only for them.

The name, the sources, where the key is kept and what is taken for an acceptance change nothing of what is
sent. Of a `transform` function only the name counts. No I/O.
"""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, fields, replace
from typing import Any

import orjson

from .column_spec import ColumnSpec, Step
from .identification_spec import Identification
from .spec import Changes, CsvOptions, Destination, Job

FINGERPRINT_VERSION = 1


def fingerprint(job: Job) -> str:
    """64 hex digits of a hash over everything in a job that changes what is sent."""
    content: dict[str, object] = {
        "version": FINGERPRINT_VERSION,
        "identification": job.identification,
        "destination": replace(job.destination, trust_status=False),
        "csv": job.csv,
        "changes": job.changes,
        "transform": job.transform,
        "partial_families": job.partial_families,
    }
    if job.missing != "fail":  # as with every new option: old jobs keep their fingerprints
        content["missing"] = job.missing
    options = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
    return hashlib.sha256(orjson.dumps(content, default=_given, option=options)).hexdigest()


def _given(value: object) -> dict[str, Any]:
    """The fields that differ from their defaults, so that a new key keeps the fingerprints of old jobs."""
    if not isinstance(value, Changes | Identification | ColumnSpec | Step | CsvOptions | Destination):
        raise TypeError(type(value))
    return {f.name: given for f in fields(value) if (given := getattr(value, f.name)) != _default(f)}


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default
