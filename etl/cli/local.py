"""The commands that need no job: `schema` and `sandbox`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from etl.cli.values import duration


@click.command(
    epilog="\b\nExample\n  propsync schema > job.schema.json\n"
    "  and in the job file: # yaml-language-server: $schema=job.schema.json"
)
def schema() -> None:
    """Print the JSON Schema of the job file, with which editors complete and check it."""
    import orjson

    from etl.job import job_schema

    click.echo(orjson.dumps(job_schema(), option=orjson.OPT_INDENT_2))


@click.command(
    epilog="\b\nExamples\n"
    "  propsync sandbox --port 8080\n"
    "  propsync sandbox --port 8080 --fault 503:0.05 --fault reset-after:0.01 --latency 80ms --seed 7"
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.  [default: 0]")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND:SHARE",
    help="Answer a share of requests with a fault: a status, or reset-before, reset-after, stall, truncate, "
    "html, oversized. May be repeated.",
)
@click.option(
    "--latency", type=duration, metavar="DURATION", default="0", help="Wait before each answer, such as 80ms."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed brings the same faults.")
@click.option("--sink", is_flag=True, help="Read bodies, answer success, and look at nothing.")
@click.option(
    "--journal", type=click.Path(path_type=Path), metavar="FILE", help="Append a line about each request."
)
@click.option("--rate", type=float, help="Identifications a second; 429 above.")
@click.option("--requests-per-second", type=float, help="Requests a second; 429 above.")
@click.option("--retry-after", type=float, help="The Retry-After of a 429, in seconds.")
def sandbox(
    port: int,
    faults: tuple[str, ...],
    latency: float,
    seed: int,
    sink: bool,
    journal: Path | None,
    rate: float | None,
    requests_per_second: float | None,
    retry_after: float | None,
) -> None:
    """Serve a stand-in for Amplitude on this machine until Ctrl-C.

    It takes identifications at /identify as Amplitude would, keeps profiles, and serves them back at
    /v1/userprofile. Any key is good.
    """
    import asyncio

    from etl.sandbox import SandboxOptions, parse_fault, serve

    options = SandboxOptions(
        port=port,
        faults=tuple(parse_fault(text) for text in faults),
        latency=latency,
        seed=seed,
        sink=sink,
        journal=journal,
        identifications_per_second=rate,
        requests_per_second=requests_per_second,
        retry_after=retry_after,
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(options, ready=lambda url: click.echo(f"sandbox at {url}")))
