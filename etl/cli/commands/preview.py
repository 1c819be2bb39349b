"""`propsync preview`: show identifications: the first ones, one user's, or a sample."""

from __future__ import annotations

import sys
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...errors import UsageError
from ...text import visible
from .. import options
from ..console import current, printable_json, show, table_text
from ..options import JOB_AND_SOURCES, command, option, switch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...pipeline.preview import PreviewedRow

_COUNT: Final = 5
_COLUMN: Final = 20  # what a column of values needs at least, with the space beside it
_WIDEST_NAME: Final = 32


@command("preview")
@JOB_AND_SOURCES
@option("-n", "N", click.IntRange(min=1), "How many.  [default: 5; with --user all]")
@option("--user", "ID", str, "Those of a user or device, by the id that is sent; reads the whole source.")
@option("--sample", "N", click.IntRange(min=1), "Those of N random rows of the whole source.")
@option("--seed", "N", int, "Decides which rows --sample takes.", default=0)
@switch("--json", "One JSON object per line, as when piped.", "as_json")
def preview_command(
    job: Path,
    sources: tuple[str, ...],
    n: int | None,
    user: str | None,
    sample: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Show identifications as they would be sent, before rows of one user are merged.

    On a terminal they are the columns of a table; else, or with --json, there is one JSON object per line.

    Examples
      propsync preview job.yml
      propsync preview job.yml --user user-1001
      propsync preview job.yml --sample 20 --json | jq .user_properties
    """
    from ...pipeline.preview import first_rows, sampled_rows

    if sample is not None and (user is not None or n is not None):
        raise UsageError("--sample goes with neither --user nor -n", hint="leave one of them out")
    loaded, _ = options.load_for_command(job, {})
    source = options.open_job_source(loaded, sources)
    if sample is not None:
        found = sampled_rows(loaded, source, count=sample, seed=seed)
    else:
        found = first_rows(loaded, source, count=n or (_COUNT if user is None else None), user=user)
    row = next(found, None)
    if row is None:
        which = "" if user is None else f" of {user}, by the id as it is sent,"
        current().message("nothing", f"no row{which} can be sent; see `propsync check` for the reasons")
    elif as_json or not sys.stdout.isatty():
        for one in chain([row], found):
            show(printable_json(one.json))
    else:
        import shutil

        for text in _tables([row, *found], shutil.get_terminal_size().columns):
            show(text)


def _tables(rows: Sequence[PreviewedRow], width: int) -> Iterator[str]:
    """Tables of at most `width` columns: a line for each field, and a column for each of some rows."""
    import orjson

    found = [(row, dict(_fields(orjson.loads(row.json)))) for row in rows]
    names = list(dict.fromkeys(name for _, fields in found for name in fields))
    several = len({row.source for row in rows}) > 1
    most = max(1, (width - min(max(map(len, names), default=0), _WIDEST_NAME) - 1) // _COLUMN)
    for begin in range(0, len(found), most):
        part = found[begin : begin + most]
        header = [f"{visible(row.source)}\n" * several + f"row {row.row:,}" for row, _ in part]
        given = [name for name in names if any(name in fields for _, fields in part)]
        cells = [[name, *(fields.get(name, "") for _, fields in part)] for name in given]
        looks = {"style": "cyan", "max_width": _WIDEST_NAME}
        yield table_text(["", *header], (map(visible, row) for row in cells), width, **looks)


def _fields(data: dict[str, Any], owner: str = "") -> Iterator[tuple[str, str]]:
    """Each value of an identification by its path, without `user_properties`; text like JSON is in quotes."""
    import orjson

    for key, value in data.items():
        if isinstance(value, dict) and (not owner or owner == "user_properties."):
            yield from _fields(value, f"{key}.")
            continue
        text = orjson.dumps(value).decode()
        if isinstance(value, str):
            text = value
            with suppress(orjson.JSONDecodeError):
                orjson.loads(value)
                text = f'"{value}"'
        yield f"{owner}{key}", text
