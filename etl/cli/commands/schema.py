"""`propsync schema`: print the JSON Schema of the job file."""

from __future__ import annotations

from ..console import show_file
from ..options import command


@command(
    "schema",
    "propsync schema > job.schema.json",
    "and as the first line of the job file:",
    "# yaml-language-server: $schema=job.schema.json",
)
def schema_command() -> None:
    """Print the JSON Schema of the job file, with which editors complete and check it."""
    import orjson

    from ...job.spec import job_schema

    show_file(orjson.dumps(job_schema(), option=orjson.OPT_INDENT_2).decode())
