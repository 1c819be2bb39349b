"""`propsync schema`: print the JSON Schema of the job file."""

from __future__ import annotations

from ..console import write_output
from ..options import command


@command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the job file, with which editors complete and check it.

    Examples
      propsync schema > job.schema.json
      and as the first line of the job file:
      # yaml-language-server: $schema=job.schema.json
    """
    import orjson

    from ...job.spec import job_schema

    write_output(None, orjson.dumps(job_schema(), option=orjson.OPT_INDENT_2).decode())
