"""The commands that need no job: `schema` and `sandbox`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from etl.cli.arguments import with_options
from etl.cli.console import show_file, show_lines
from etl.cli.values import duration
from etl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command(
    short_help="Print the JSON Schema of the job file.",
    epilog="\b\nExamples\n"
    "  propsync schema > job.schema.json\n"
    "  and as the job file's first line: # yaml-language-server: $schema=job.schema.json",
)
def schema() -> None:
    """Print the JSON Schema of the job file, with which editors complete and check it."""
    import orjson

    from etl.job.json_schema import job_schema

    show_file(orjson.dumps(job_schema(), option=orjson.OPT_INDENT_2).decode())


def _given(flag: str, text: str, metavar: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(flag, metavar=metavar, help=text, **settings)


# Each fills the field of SandboxOptions that has its name; what isn't given keeps that field's default.
_SANDBOX_OPTIONS: Final = (
    _given("--port", "0 takes a free one.  [default: 0]", "N", type=int),
    _given("--api-key", "The only API key that is right. May be repeated.", "KEY", multiple=True),
    _given(
        "--fault",
        "Let a share of requests fail, such as 503:5%. May be repeated; the kinds are below.",
        "KIND:SHARE",
        multiple=True,
    ),
    _given("--latency", "Wait before each answer, such as 80ms.", "DURATION", type=duration),
    _given("--seed", "Another seed brings other faults.  [default: 0]", "N", type=int),
    _given("--identifications-per-second", "Answer 429 above this rate.", "N", type=float),
    _given("--hot-user", "Answer 429 to requests with this user. May be repeated.", "ID", multiple=True),
    _given("--poison-user", "Answer 400 to requests with this user. May be repeated.", "ID", multiple=True),
    click.option("--sink", is_flag=True, help="Answer success to everything, unread: to measure speed."),
    click.option("--record", is_flag=True, help="Remember requests, for /_sandbox/requests."),
    _given("--journal", "Append a line about each request.", "FILE", type=click.Path(path_type=Path)),
)
_FIELDS: Final = {
    "api_key": "api_keys",
    "fault": "faults",
    "hot_user": "hot_users",
    "poison_user": "poison_users",
}


@click.command(
    short_help="Serve a stand-in for Amplitude on this machine.",
    epilog="\b\nKinds of faults\n"
    "  400 to 599  answer with that status\n"
    "  reset       break the connection without an answer\n"
    "  stall       never answer\n"
    "  truncate    answer 200, and end before the body does\n"
    "  html        answer 502 with an HTML page\n"
    "  oversized   answer 502 with 8 MiB of text\n"
    "  empty       answer 200 without a body\n"
    "  portal      answer 200 with the sign-in page of a portal\n"
    "  Add -before or -after to a kind to ignore the request or to apply it first: reset-after:1%\n"
    "\n\b\nExamples\n"
    "  propsync sandbox --port 8900\n"
    "  propsync sandbox --port 8900 --fault 503:5% --fault reset-after:1% --latency 80ms --seed 7\n"
    "  curl -H 'Authorization: Api-Key any' \\\n"
    "    'http://127.0.0.1:8900/v1/userprofile?user_id=user-1&get_amp_props=true'\n"
    "\nLimits, quotas and more can be changed while it runs: POST /_sandbox/faults, see docs/sandbox.md.",
)
@with_options(_SANDBOX_OPTIONS)
def sandbox(**given: Any) -> None:
    """Serve a stand-in for Amplitude on this machine until Ctrl-C.

    It takes identifications at /identify and events at /batch and /2/httpapi as Amplitude would, keeps
    profiles, and serves them back at /v1/userprofile. Unless told otherwise every key is good, nothing fails
    and no speed is too high.
    """
    import asyncio

    from etl.sandbox import SandboxError, make_options, serve

    values = {_FIELDS.get(name, name): value for name, value in given.items() if value is not None}
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(serve(make_options(values), ready=lambda url: show_lines([f"sandbox at {url}"])))
    except SandboxError as error:
        raise UsageError(error.message, hint=error.hint) from error
