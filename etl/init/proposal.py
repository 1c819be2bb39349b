"""The job file that `init` proposes for a source, which it reads as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..amplitude.requests import MAX_PROPERTIES, MIN_ID_LENGTH
from ..job.problems import clipped
from ..job.scalars import in_quotes, quoted
from ..job.words import MAX_NAME
from ..text import counted, shell_word, visible
from .column_proposals import comment, property_line, propose_columns, spec_text
from .csv_guess import Reading, read_likeliest
from .facts import ReadProgress, read_facts
from .id_choice import choose_id, id_rejects
from .names import columns_by_field, is_device_id, mappable
from .recognisers import is_short_word

_TEMPLATES: Final = Environment(  # noqa: S701 - they make text, not HTML
    loader=FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
)
_TEMPLATES.globals |= {"MAX_PROPERTIES": MAX_PROPERTIES, "MIN_ID_LENGTH": MIN_ID_LENGTH}
_TEMPLATES.filters |= {
    "clipped": clipped,
    "comment": comment,
    "counted": counted,
    "in_quotes": in_quotes,
    "property_line": property_line,
    "quoted": quoted,
    "spec": spec_text,
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """A job file's `text`, and `notes` for the terminal, one line each.

    `rejects` counts the rows that a run of the job will reject, by reject code; both texts report them.
    """

    text: str
    notes: tuple[str, ...]
    rejects: Mapping[str, int]


def propose_job(
    locations: Sequence[str], output: Path | None, progress: ReadProgress | None = None
) -> Proposal:
    """Read what `locations` name (relative to the current folder), to be written to `output` or to stdout.

    Reads all of it, and again if the first lines didn't show how it is written, or no column looks like an
    id. `progress` is called with the rows that were read and, if it is known, how many there are. Raises
    SourceError.
    """
    reading = read_likeliest(locations, progress)
    name = output.name if output else f"{PurePath(reading.source.files[0].name).name.partition('.')[0]}.yml"
    folder = output.parent if output else Path()
    # In a job file, relative paths are relative to its folder.
    written = [
        location
        if location == "-" or "://" in location or location.startswith(("/", "~"))
        else Path(os.path.relpath(location, folder)).as_posix()
        for location in locations
    ]
    return propose(reading, locations=written, name=PurePath(name).stem, file=str(output or name))


def propose(reading: Reading, *, locations: Sequence[str], name: str, file: str) -> Proposal:
    """The job called `name` for a source that was read; comments call its file `file`.

    `locations` are those for the job file's `source`, as seen from its folder. Raises SourceError.
    """
    source, facts = reading.source, reading.facts
    choice = choose_id(facts)
    if not choice.facts.ids_known:  # nothing looks like an id
        facts = read_facts(source, count_ids=True)
        choice = choose_id(facts)
    named = columns_by_field(
        column.name
        for column in facts.columns.values()
        if not (column.nested or column.faults or column.bytes)
        and column is not choice.facts
        and column.name in facts.everywhere
    )
    empty = {column.name for column in facts.columns.values() if column.missing == column.rows}
    columns = mappable(named, empty)
    fields = {field: facts.columns[column].as_text for field, column in columns.items()}
    devices = [name for name in facts.columns if is_device_id(name) and choice.field == "user_id"]
    used = {choice.facts.name, *devices, *columns.values()}
    rest = [column for column in facts.columns.values() if column.name not in used]
    proposals = propose_columns(rest, facts, named)
    mapped = {*used, *(proposal.column for proposal in proposals)}
    words = {word for column in mapped for word in facts.columns[column].nulls}
    values = {
        "reading": reading,
        "source": facts,
        "choice": choice,
        "id_rejects": id_rejects(choice),
        "proposals": proposals,
        "too_many": len(proposals) < len(rest),
        "devices": devices,
        "fields": fields,
        "nulls": sorted(word for word in words if not is_short_word(word)),
        "locations": [quoted(location.replace("$", "$$")) for location in locations],
        "file": visible(shell_word(file)),  # a line end in it would end the comment
        "name": re.sub(r"[^\w.-]+", "-", name).lstrip("-.")[:MAX_NAME].rstrip("-.") or "users",
    }
    notes = _TEMPLATES.get_template("notes.jinja").render(values).removesuffix("\n").split("\n")
    text = _TEMPLATES.get_template("job_file.jinja").render(values)
    return Proposal(text, tuple(notes), dict(choice.rejects + facts.unreadable))
