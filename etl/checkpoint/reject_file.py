"""rejects.ndjson: the rejects of a run, which can be the source of another run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from ..model import Reject
from ..state_files import replacing_file


def publish_rejects(path: Path, rejects: Iterable[Reject], *, run: int) -> None:
    """Replace the file by these rejects, one JSON object a line, in their order. Raises StateError.

    `run` is the number of the run that rejected them.
    """
    with replacing_file(path) as file:
        file.writelines(reject_lines(rejects, run=run))


def reject_lines(rejects: Iterable[Reject], *, run: int) -> Iterator[bytes]:
    """The lines of the file; `values` is the row as it was read."""
    for reject in rejects:
        entry: dict[str, object] = {
            "source": reject.source,
            "row": reject.row,
            "code": reject.code,
            "reason": reject.reason,
            "values": orjson.Fragment(reject.values),
            "run": run,
        }
        if reject.origin:
            entry["origin"] = reject.origin
        yield orjson.dumps(entry) + b"\n"
