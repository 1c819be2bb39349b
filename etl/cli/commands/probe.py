"""`propsync probe`: try the API key, and find out what the destination takes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import UsageError
from .. import options
from ..console import current, show_result
from ..options import command, option, parse_duration, switch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...checkpoint.run_records import Capabilities

_PLAN = """\
This sends up to {requests} requests with up to {size} in all to
{endpoint}, of users named {prefix}*,
who stay there. It takes a few minutes. Use the key of a test project."""


@command("probe", variables=True)
@options.JOB
@switch("--limits", "Also find out what a request may hold, and what Amplitude does with unusual ones.")
@switch("--yes", "Don't ask before --limits begins.")
@option(
    "--settle", "DURATION", parse_duration, "With --limits: wait so long before reading back.", default="60s"
)
@options.PLACES
@switch("--allow-http", "Allow the keys to be sent over plain HTTP to another machine.")
@options.JSON_FLAG
def probe_command(job: Path, limits: bool, yes: bool, settle: float, as_json: bool, **flags: Any) -> None:
    """Try whether the API key works, and in which region, with at most two requests that change nothing.

    Exit code 5 if the key doesn't work where the job sends to. With --limits, also find out on a test project
    what no page says, and keep the answers in capabilities.json in the state folder; `run` then keeps to
    them. With the secret key in AMPLITUDE_SECRET_KEY, more questions are answered.

    Examples
      AMPLITUDE_API_KEY=... propsync probe job.yml
      propsync probe job.yml --limits --yes --json    (on a test project)
    """
    from ...job.known_job import read_api_key, read_secret_key
    from ...readback import probe_key, probe_limits
    from ...readback.sessions import MOST_BYTES, MOST_REQUESTS, PREFIX
    from ...text import size

    notify, (loaded, flags) = partial(current().message, "probe"), options.load_for_command(job, flags)
    key = read_api_key(loaded, os.environ)
    endpoint, region = probe_key(loaded, key, endpoint=flags["endpoint"], allow_http=flags["allow_http"])
    message = f"{loaded.name}: the API key works at {endpoint}{f' (region {region})' if region else ''}"
    if not limits:
        show_result({"endpoint": endpoint, "region": region}, [message], as_json=as_json)
        return
    secret_key = None
    with suppress(UsageError):
        secret_key = read_secret_key(loaded, os.environ)
        current().secrets.append(secret_key)
    notify(message)
    plan = {"requests": MOST_REQUESTS, "size": size(MOST_BYTES), "prefix": PREFIX}
    for line in _PLAN.format(endpoint=endpoint, **plan).split("\n"):
        notify(line)
    if not yes:
        if not sys.stdin.isatty():
            message = "--limits asks before it begins, and there is no terminal; it sent nothing"
            raise UsageError(message, hint="give --yes")
        click.confirm("Go on?", abort=True, err=True)
    result = probe_limits(loaded, key, secret_key, settle=settle, notify=notify, **flags)
    lines = [f"{loaded.name}: {result.endpoint}", "", *capability_lines(result)]
    show_result(result.as_json(), lines, as_json=as_json)


def capability_lines(known: Capabilities) -> Iterator[str]:
    """Yield each question with its answer and the evidence, and the words of refusals."""
    for name, finding in known.findings.items():
        yield f"  {name:<16}{finding}"
        yield f"    {finding.evidence}"
    for what, answer in (known.findings["refusals"].value or {}).items():
        yield f"    {what}: {answer}"
