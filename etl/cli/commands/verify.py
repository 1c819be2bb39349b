"""`propsync verify`: read users of the export back from Amplitude, and compare them."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import ExitCode
from .. import options
from ..console import current, show_result
from ..options import command, option, parse_duration, switch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...readback import Verified

_MOST_SHOWN = 20
_WIDEST = 18  # columns of a value or a name in the table
_KINDS = {"missing_user": "no such user", "missing_property": "missing"}
_ABOVE_0 = click.FloatRange(min=0, min_open=True)
_SETTLE = "Wait until what was sent last is so old: Amplitude takes a while to show it."
_NOT_THERE = """\
A user who is not there was not sent, was sent to another project, or is new to
Amplitude: what is sent of a new user applies with the user's next event."""


@command("verify", variables=True)
@options.JOB_AND_SOURCES
@option("--sample", "N", click.IntRange(min=1), "How many random users to read back.", default=400)
@option("--seed", "N", int, "Decides which users; the same number takes the same ones.  [default: random]")
@option("--rate", "N", _ABOVE_0, "Reads a minute.", default=600, envvar="PROPSYNC_VERIFY_RATE")
@option("--settle", "DURATION", parse_duration, _SETTLE, default="60s")
@options.PLACES
@switch("--allow-http", "Allow the secret key to be sent over plain HTTP to another machine.")
@options.JSON_FLAG
def verify_command(job: Path, sources: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Read random users of the source back from Amplitude and compare them with the source.

    Shows what differs, and which share of all users is right at least. It needs the project's secret key,
    from AMPLITUDE_SECRET_KEY or from where the job file says, and works for US projects only. Exit code 3 if
    something differs. Nothing is sent or changed.

    Examples
      AMPLITUDE_SECRET_KEY=... propsync verify job.yml
      propsync verify job.yml exports/new.csv --sample 2000 --json
      propsync verify job.yml --endpoint http://127.0.0.1:8900    (of a sandbox)
    """
    from ...job.known_job import read_secret_key
    from ...readback import reading_endpoint, verify_job

    # `rate` in the job file is another one than that of reads.
    shared = {name: flags.pop(name) for name in ("endpoint", "state_dir", "allow_http")}
    loaded, shared = options.load_for_command(job, shared)
    source = options.open_job_source(loaded, sources)
    reading_endpoint(loaded, shared["endpoint"])  # nobody should look for a key that is of no use
    secret_key = read_secret_key(loaded, os.environ)
    invocation = current()
    invocation.secrets.append(secret_key)
    notify = partial(invocation.message, "verify")
    found = verify_job(loaded, source, secret_key, notify=notify, **flags, **shared)
    show_result(asdict(found), verified_lines(found), as_json=as_json)
    return ExitCode.REJECTS if found.wrong else ExitCode.DONE


def verified_lines(found: Verified) -> Iterator[str]:
    """Yield what was found out, for people."""
    from ...listeners.summary import aligned
    from ...text import counted

    users = counted(found.sample, "user" if found.complete else "random user")
    yield f"{found.job}: {users} of {counted(found.rows, 'row')} read back from {found.endpoint}"
    yield ""
    rest = found.sample - found.right - found.wrong
    table = [("right", found.right, ""), ("wrong", found.wrong, ""), ("not compared", rest, "")]
    yield from aligned(table if rest else table[:2])
    if found.differences:
        yield ""
        yield from difference_lines(found)
    if any(one.kind == "missing_user" for one in found.differences):
        yield ""
        yield from _NOT_THERE.split("\n")
    if found.not_compared:
        yield ""
        yield "Values that can't be compared:"
        yield from (f"  {count:,}: {reason}" for reason, count in found.not_compared.items())
    yield ""
    if not found.right + found.wrong:
        yield "This proves nothing: no value could be compared."
    elif found.complete and not rest:
        yield "These are all users of the source."
    else:
        share = f"{int(found.right_at_least * 10_000) / 100:.2f} %"
        yield f"With {found.confidence * 100:.0f} % confidence, at least {share} of all users are right."
        yield f"To read the same users again: --seed {found.seed}"


def difference_lines(found: Verified) -> Iterator[str]:
    """Yield a table of the first differences."""
    from ...listeners.plan_text import value_text
    from ...text import counted, in_table, one_line, shortened

    rows: list[tuple[str, ...]] = [("user", "property", "expected", "found", "")]
    for one in found.differences[:_MOST_SHOWN]:
        values = ("-" if value is None else value_text(value) for value in (one.expected, one.found))
        cells = (shortened(one_line(text), _WIDEST) for text in (one.user, one.property or "-", *values))
        rows.append((*cells, _KINDS.get(one.kind, one.kind.replace("_", " "))))
    yield from (f"  {line}" for line in in_table(rows))
    if len(found.differences) > _MOST_SHOWN:
        yield f"  and {counted(len(found.differences) - _MOST_SHOWN, 'more difference')}; --json lists all"
