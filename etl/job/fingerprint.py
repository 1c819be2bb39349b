"""Two jobs that send the same of the same rows have one fingerprint, and no others do. No I/O.

The name, the sources, where the key is kept and what is taken for an acceptance change nothing of what is
sent. Of a `transform` function only
the name counts: what it does can't be seen from here.
"""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, fields, replace
from typing import Any

import orjson

from etl.job.spec import Changes, ColumnSpec, CsvOptions, Destination, Identification, Job, Step

VERSION = 1


def fingerprint(job: Job) -> str:
    """64 hex digits over everything of a job that changes what is sent."""
    content: dict[str, object] = {
        "version": VERSION,
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
    """What differs from the defaults, so that a new option leaves the fingerprints of old jobs alone."""
    if not isinstance(value, Changes | Identification | ColumnSpec | Step | CsvOptions | Destination):
        raise TypeError(type(value))
    return {f.name: given for f in fields(value) if (given := getattr(value, f.name)) != _default(f)}


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default
