"""A source is read as a whole and becomes the job file that its author would have begun with."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Final, TypeAlias

from ..amplitude.limits import MAX_PROPERTIES, MIN_ID_LENGTH
from ..job import ColumnSpec, CsvOptions
from ..reader import Source, open_source
from ..text import counted, shell_word, visible
from .column_proposals import ColumnProposal, PropertyLine, propose_column
from .csv_guess import guess_csv
from .facts import SourceFacts, read_facts
from .id_choice import choose_id, id_rejects
from .job_text import TEMPLATES, quoted
from .names import columns_by_field, is_device_id, mappable
from .recognisers import is_short_word

_BY_ESCAPES: Final = ("stray_quote", "unclosed_quote", "ragged")
_MAX_NAME: Final = 60
# Called with the rows that were read, and how many there are if that is known.
ReadProgress: TypeAlias = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A job file's `text`, and `notes` for the terminal, one line each.

    `rejects` counts the rows that a run of the job will reject, by reject code; both texts report them.
    """

    text: str
    notes: tuple[str, ...]
    rejects: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """A source as it was read: with which options, why there is an escape character, and other remarks."""

    source: Source
    facts: SourceFacts
    csv: CsvOptions
    remark: str = ""
    remarks: tuple[str, ...] = ()


def propose_job(
    locations: Sequence[str], output: Path | None, progress: ReadProgress | None = None
) -> Proposal:
    """Read what `locations` name (relative to the current folder), to be written to `output` or to stdout.

    Reads all of it, and again if the first lines didn't show how it is written, or no column looks like an
    id. `progress` is called with the rows that were read and, if it is known, how many there are. Raises
    SourceError.
    """
    reading = _read_likeliest(locations, progress)
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


def proposed_name(text: str) -> str:
    """The text as the name of a job."""
    name = re.sub(r"[^\w.-]+", "-", text).lstrip("-.")[:_MAX_NAME].rstrip("-.")
    return name or "users"


# --- how the files are written ---------------------------------------------------------------------------


def _read_likeliest(locations: Sequence[str], progress: ReadProgress | None) -> Reading:
    """Read a source with the encoding, escape character and delimiter that fit. Raises SourceError."""

    def read(csv: CsvOptions) -> tuple[Source, SourceFacts]:
        source = open_source(locations, csv=csv)
        return source, read_facts(source, progress=progress)

    csv, remarks = guess_csv(locations)
    source, facts = read(csv)
    if not source.repeatable or any(file.format != "csv" for file in source.files):
        return Reading(source, facts, csv, remarks=remarks)
    # A file in UTF-8 with a few broken bytes has other letters that are right; an old file has none.
    if csv.encoding == "utf-8" and facts.unreadable["bad_encoding"] > facts.beyond_ascii:
        csv, remarks = guess_csv(locations, all_lines=True)
        source, facts = read(csv)
    remark = ""
    if facts.backslashes:
        escaped = replace(csv, escape="\\")
        again, after = read(escaped)
        # Fewer rows have wrong quotes or another number of fields, and no other rows are lost.
        misread, before = (sum(one.unreadable[code] for code in _BY_ESCAPES) for one in (after, facts))
        lost, lost_before = (one.unreadable.total() for one in (after, facts))
        if misread < before and after.rows - lost > facts.rows - lost_before:
            remark = f"without `escape`, {counted(lost_before, 'row')} can't be read; with it, {lost:,}"
            source, facts, csv = again, after, escaped
    return Reading(source, facts, csv, remark, remarks)


# --- the proposal ----------------------------------------------------------------------------------------


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
    fields = {
        field: ColumnSpec(
            column=column,
            too_long="truncate" if facts.columns[column].too_long else "reject",
            nulls=facts.columns[column].own_nulls,
        )
        for field, column in mappable(named, empty).items()
    }
    devices = [name for name in facts.columns if is_device_id(name) and choice.field == "user_id"]
    used = {choice.facts.name, *devices, *(spec.column for spec in fields.values())}
    proposals, names, too_many = list[ColumnProposal](), set[str](), False
    for column in facts.columns.values():
        if column.name not in used:
            if too_many := len(names) >= MAX_PROPERTIES:
                break
            found = propose_column(column, facts, named)
            proposals.append(replace(found, lines=tuple(_with_own_name(line, names) for line in found.lines)))
    mapped = {*used, *(proposal.column for proposal in proposals)}
    words = {word for one in mapped if one in facts.columns for word in facts.columns[one].nulls}
    values = {
        "source": facts,
        "choice": choice,
        "id_rejects": id_rejects(choice),
        "min_id_length": MIN_ID_LENGTH,
        "proposals": proposals,
        "names": names,
        "too_many": too_many,
        "max_properties": MAX_PROPERTIES,
        "files": [file.name for file in source.files],
        "locations": [quoted(location.replace("$", "$$")) for location in locations],
        "file": visible(shell_word(file)),  # a line end in it would end the comment
        "name": proposed_name(name),
        "reading": reading,
        "nulls": sorted(word for word in words if not is_short_word(word)),
        "devices": devices,
        "fields": fields,
        "warnings": source.warnings,
    }
    notes = TEMPLATES.get_template("notes.jinja").render(values).removesuffix("\n").split("\n")
    rejects = dict(Counter(choice.rejects) + facts.unreadable)
    return Proposal(TEMPLATES.get_template("job_file.jinja").render(values), tuple(notes), rejects)


def _with_own_name(line: PropertyLine, names: set[str]) -> PropertyLine:
    """The line with a name that no other active one has; the `names` are those of these."""
    name = line.name
    while line.active and name in names:
        name += "_"
    names.update([name] if line.active else [])
    return replace(line, name=name)
