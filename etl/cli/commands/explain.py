"""`propsync explain`: the rows of one user, and why the user has a property or lacks it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from .. import options
from ..console import show_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...pipeline.preview import Explanation

_STATES: Final = {"same": "as the last row has it", "differs": "other than the last row has it, or unknown"}
_LONGEST: Final = 200
_WIDTH: Final = 18  # of a name and of a value; longer ones push what follows to the right


@options.command("explain")
@options.JOB_AND_SOURCES
@click.option("--user", metavar="ID", required=True, help="The user id or device id, as Amplitude has it.")
@options.PLACES
@options.JSON_FLAG
def explain_command(job: Path, sources: tuple[str, ...], user: str, as_json: bool, **flags: Any) -> None:
    """Show the rows of one user with their places, and what each value became and why.

    Then what the snapshot holds, what the next run would send, and the user's rejects of the last run. It
    reads the whole source, needs no API key and changes no state.

    Examples
      propsync explain job.yml --user 4711
      propsync explain job.yml exports/new.csv --user 4711 --json | jq .next
    """
    from ...pipeline.preview import explain_user
    from ...pipeline.settings import Settings

    loaded, flags = options.load_for_command(job, flags)
    source = options.open_job_source(loaded, sources)
    found = explain_user(loaded, source, user.strip(), settings=Settings(**flags))
    show_result(asdict(found), _lines(found), as_json=as_json)


def _lines(found: Explanation) -> Iterator[str]:
    from ...text import address, counted, shortened

    def written(value: object) -> str:
        return shortened(orjson.dumps(value).decode(), _LONGEST)

    yield f"{found.user}: {counted(len(found.rows), 'row')} in the source"
    for row in found.rows:
        yield ""
        yield f"  {row.source}, row {row.row:,}"
        if row.code is not None:
            yield f"    rejected, {row.code}: {row.reason}"
        elif not row.values:
            yield "    gives no value, so it describes no update"
        for value in row.values:
            name = value.column or "(constant)"
            text = written(value.source) if value.column else ""
            place = value.place.removeprefix("user_properties.")
            sent = f"{place}: not sent" if value.sent is None else f"{place} = {written(value.sent)}"
            reason = f"  ({value.reason})" if value.reason else ""
            yield f"    {name:{_WIDTH}} {text:{_WIDTH}} -> {sent}{reason}"
    yield ""
    yield from _snapshot_lines(found, address(found.endpoint))
    yield ""
    if found.unfinished:
        yield "  A run is unfinished; what it has sent so far does not show here."
    if found.next:
        yield "  The next run sends"
        yield from (f"    {written(identification)}" for identification in found.next)
    else:
        yield "  The next run sends nothing for this user."
    for reject in found.rejects:
        where = f"{reject['source']}, row {reject['row']:,}"
        yield f"  Rejected by run {reject['run']}: {where}: {reject['code']}: {reject['reason']}"


def _snapshot_lines(found: Explanation, endpoint: str) -> Iterator[str]:
    if found.known is None:
        yield "  The job compares nothing (`changes: off`): every row is sent each time."
        return
    if not found.known:
        yield f"  The snapshot of {endpoint} does not know this user: nothing was accepted so far."
        return
    yield f"  The snapshot of {endpoint} knows this user; last sent or confirmed by run {found.run}."
    if found.in_doubt:
        yield "  It is in doubt whether Amplitude applied a request of that run, so the user is sent again."
    for name, state in found.properties.items():
        yield f"    {name:{_WIDTH}} {_STATES[state]}"
