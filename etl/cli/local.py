"""The commands that need no job: `schema` and `sandbox`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from etl.cli.arguments import with_options
from etl.cli.console import show_file, show_lines
from etl.cli.values import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from etl.sandbox import FaultRule


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


def _words(_context: click.Context, _option: click.Parameter, given: Iterable[str]) -> frozenset[str]:
    return frozenset(given)


def _rules(_context: click.Context, _option: click.Parameter, given: Iterable[str]) -> tuple[FaultRule, ...]:
    from etl.sandbox import parse_fault

    return tuple(parse_fault(text) for text in given)


def _many(
    flag: str,
    name: str,
    text: str,
    metavar: str,
    read: Callable[[click.Context, click.Parameter, Any], object] = _words,
) -> Callable[[Any], Any]:
    return click.option(flag, name, multiple=True, callback=read, metavar=metavar, help=text)


def _word(flag: str, text: str, metavar: str) -> Callable[[Any], Any]:
    return click.option(flag, metavar=metavar, help=text)


def _number(flag: str, text: str, kind: type[float] = float) -> Callable[[Any], Any]:
    return click.option(flag, type=kind, metavar="N", help=text)


# Each fills the field of SandboxOptions that has its name; what isn't given keeps that field's default.
_BEHAVIOUR: Final = (
    _number("--port", "0 takes a free one.  [default: 0]", int),
    _many("--api-key", "api_keys", "The only API key that is right. May be repeated.", "KEY"),
    _many("--secret-key", "secret_keys", "The same for reading back.", "KEY"),
    click.option("--echo-key", is_flag=True, help="Repeat a refused key in the answer."),
    _number("--max-identifications", "The most in one request.  [default: 1000]", int),
    _number("--max-bytes", "The largest request.  [default: 1000000]", int),
    _number("--max-events", "The most events in one upload.  [default: 2000]", int),
    _number("--max-batch-bytes", "The largest JSON at /batch, unpacked.  [default: 20000000]", int),
    _number("--requests-per-second", "429 above."),
    _number("--identifications-per-second", "429 above."),
    _number("--reads-per-minute", "429 above, for reading back."),
    _number("--user-updates-per-second", "429 for users updated more often ..."),
    _number("--user-window", "... on average over N seconds.  [default: 30]"),
    _number("--user-updates-per-hour", "Drop a user's updates above, and say success.", int),
    _number("--retry-after", "Put that many seconds on every 429."),
    _many("--hot-user", "hot_users", "429 for every request with this user. May be repeated.", "ID"),
    _number("--hot-tries", "Only for the first N of these requests.", int),
    _many("--poison-user", "poison_users", "Refuse every request with this user. May be repeated.", "ID"),
    _many("--poison-text", "poison_texts", "The same for a text in the request.", "TEXT"),
    _number("--poison-status", "Refuse them with 400 or 403.  [default: 400]", int),
    _many("--quota-user", "quota_users", "Events of this user are over the day's quota: 429.", "ID"),
    _many("--silenced-user", "silenced_users", "Events of this user are silenced: 400.", "ID"),
    _word("--offenders", "Events that a 400 names by index.  [default: all]", "all|first|none"),
    _word("--ingested", "Count every event, those not sent before, or none.  [default: all]", "all|new|none"),
    _many(
        "--fault",
        "faults",
        "Let a share of requests fail: 503:0.05. May be repeated. A kind is a status from 400 to 599, or "
        "reset, stall, truncate, html, oversized, empty, portal; -before or -after may follow it.",
        "KIND:SHARE",
        _rules,
    ),
    click.option(
        "--latency", type=duration, metavar="DURATION", help="Wait before each answer, such as 80ms."
    ),
    click.option("--seed", type=int, metavar="N", help="The same seed brings the same faults.  [default: 0]"),
    click.option("--sink", is_flag=True, help="Read bodies, answer success, and look at nothing."),
    click.option("--record", is_flag=True, help="Remember requests, for /_sandbox/requests."),
    click.option(
        "--journal", type=click.Path(path_type=Path), metavar="FILE", help="Append a line about each request."
    ),
)


@click.command(
    short_help="Serve a stand-in for Amplitude on this machine.",
    epilog="\b\nExamples\n"
    "  propsync sandbox --port 8900\n"
    "  propsync sandbox --port 8900 --fault 503:0.05 --fault reset-after:0.01 --latency 80ms --seed 7\n"
    "  curl -H 'Authorization: Api-Key any' \\\n"
    "    'http://127.0.0.1:8900/v1/userprofile?user_id=user-1&get_amp_props=true'",
)
@with_options(_BEHAVIOUR)
def sandbox(**behaviour: Any) -> None:
    """Serve a stand-in for Amplitude on this machine until Ctrl-C.

    It takes identifications at /identify and events at /batch and /2/httpapi as Amplitude would, keeps
    profiles, and serves them back at /v1/userprofile. Unless told otherwise every key is good, nothing fails
    and no speed is too high.
    """
    import asyncio

    from etl.sandbox import SandboxOptions, serve

    options = SandboxOptions(**{name: value for name, value in behaviour.items() if value is not None})
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(options, ready=lambda url: show_lines([f"sandbox at {url}"])))
