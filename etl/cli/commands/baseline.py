"""`propsync baseline`: record a source as sent, without sending it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import ExitCode
from ...text import counted
from .. import options
from ..console import show_result


@options.command("baseline", variables=True)
@options.JOB_AND_SOURCES
@options.PLACES
@options.JSON_FLAG
def baseline_command(job: Path, sources: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Record the source as sent, so that the next run sends only what has changed since.

    For users that were brought to Amplitude by other means. It needs no API key. Rows that can't be sent are
    not recorded; exit code 3 if there are any.

    Examples
      propsync baseline job.yml
      propsync baseline job.yml exports/2024-05-01.parquet --json
    """
    from ...pipeline.diff_base import record_baseline
    from ...pipeline.settings import Settings

    loaded, flags = options.load_for_command(job, flags)
    source = options.open_job_source(loaded, sources)
    found = record_baseline(loaded, source, settings=Settings(**flags))
    rows, users = counted(found.rows, "row"), counted(found.entries, "user")
    lines = [f"{found.job}: {rows} read, {users} in the snapshot"]
    lines += [f"  not recorded, {code}: {count:,}" for code, count in found.rejects_by_code.most_common()]
    show_result(found, lines, as_json=as_json)
    return ExitCode.REJECTS if found.rejected else ExitCode.DONE
