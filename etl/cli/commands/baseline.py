"""`propsync baseline`: record a source as sent, without sending it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import ExitCode
from ..console import show_json, show_lines
from ..options import (
    ENDPOINT,
    JOB,
    JSON_FLAG,
    SOURCES,
    STATE_DIR,
    command,
    from_environment,
    load_for_command,
    open_job_source,
)


@from_environment
@command(
    "baseline",
    "propsync baseline job.yml",
    "propsync baseline job.yml exports/2024-05-01.parquet --json",
)
@JOB
@SOURCES
@ENDPOINT
@STATE_DIR
@JSON_FLAG
def baseline_command(job: Path, sources: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Record the source as sent, so that the next run sends only what has changed since.

    For users that were brought to Amplitude by other means. It needs no API key. Rows that can't be sent are
    not recorded; exit code 3 if there are any.
    """
    from ...pipeline import Settings, record_baseline

    loaded, flags = load_for_command(job, flags)
    source = open_job_source(loaded, sources)
    found = record_baseline(loaded, source, settings=Settings(**flags))
    if as_json:
        show_json(found)
    else:
        codes = found.rejects_by_code.most_common()
        show_lines(
            [
                f"{found.job}: {found.rows:,} rows read, {found.entries:,} users in the snapshot",
                *(f"  not recorded, {code}: {count:,}" for code, count in codes),
            ]
        )
    return ExitCode.REJECTS if found.rejected else ExitCode.DONE
