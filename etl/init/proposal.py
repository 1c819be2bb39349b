"""A source is read as a whole and becomes the job file that its author would have begun with."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Final

from ..amplitude.limits import MIN_ID_LENGTH
from ..errors import SourceError
from ..job import ColumnSpec, CsvOptions
from ..reader import Source, open_source
from ..text import counted
from .column_proposals import propose_column
from .facts import SourceFacts, read_facts
from .id_choice import choose_id
from .job_text import (
    header_lines,
    identification_lines,
    job_text,
    proposal_notes,
    source_lines,
)
from .names import columns_by_field, is_device_id, mappable

# In this order: UTF-8 text is seldom anything else, and latin-1 takes any bytes.
OLD_ENCODINGS: Final = ("cp1252", "latin-1")
_DELIMITERS: Final = (",", ";", "\t", "|")
_BY_ESCAPES: Final = ("stray_quote", "unclosed_quote", "ragged")
_MAX_NAME: Final = 60


@dataclass(frozen=True, slots=True)
class Proposal:
    """A job file's `text`, and `notes` for the terminal, one line each.

    `rejects` counts the rows that a run of the job will reject, by reject code; both texts report them.
    """

    text: str
    notes: tuple[str, ...]
    rejects: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Reading:
    """A source as it was read: with which options, and why there is an escape character."""

    source: Source
    facts: SourceFacts
    csv: CsvOptions
    remark: str = ""


def propose_job(locations: Sequence[str], output: Path | None) -> Proposal:
    """Read what `locations` name (relative to the current folder), to be written to `output` or to stdout.

    Reads all of it, twice if it turns out not to be UTF-8. Raises SourceError.
    """
    reading = _read_likeliest(locations)
    name = output.name if output else f"{PurePath(reading.source.files[0].name).name.partition('.')[0]}.yml"
    folder = output.parent if output else Path()
    # In a job file, relative paths are relative to its folder.
    written = [
        location
        if location == "-" or "://" in location or location.startswith(("/", "~"))
        else Path(os.path.relpath(location, folder)).as_posix()
        for location in locations
    ]
    return _proposal(reading, locations=written, name=PurePath(name).stem, file=str(output or name))


def propose(
    source: Source,
    *,
    locations: Sequence[str],
    name: str,
    csv: CsvOptions | None = None,
    file: str | None = None,
) -> Proposal:
    """Read all of `source` and propose a job called `name` for it.

    `locations` are those for the job file's `source`, as seen from its folder; `csv` is what the source
    was opened with; `file` is how comments call the job file. Raises SourceError.
    """
    reading = _Reading(source, read_facts(source, prefix=id_prefix(source)), csv or CsvOptions())
    return _proposal(reading, locations=locations, name=name, file=file or f"{proposed_name(name)}.yml")


def id_prefix(source: Source) -> str:
    """The prefix of ids that are too short: the first long word of the first file's name, and a dash."""
    stem = PurePath(source.files[0].name).name.partition(".")[0] if source.files else ""
    words = [word.lower() for word in re.findall(r"[^\W_]+", stem)]
    long = [word for word in words if len(word) >= MIN_ID_LENGTH - 2 and not word.isdigit()]
    return f"{[*long, 'user'][0][:_MAX_NAME]}-"


def proposed_name(text: str) -> str:
    """The text as the name of a job."""
    name = re.sub(r"[^\w.-]+", "-", text).lstrip("-.")[:_MAX_NAME].rstrip("-.")
    return name or "users"


# --- how the files are written ---------------------------------------------------------------------------


def _read_likeliest(locations: Sequence[str]) -> _Reading:
    """Read a source with the encoding, escape character and delimiter that fit. Raises SourceError."""
    source, csv = _open_likeliest(locations)
    prefix = id_prefix(source)
    facts = read_facts(source, prefix=prefix)
    all_csv = all(file.format == "csv" for file in source.files)
    if not source.repeatable:
        return _Reading(source, facts, csv)
    # A file in UTF-8 with a few broken bytes has other letters that are right; an old file has none.
    if csv.encoding == "utf-8" and all_csv and facts.unreadable["bad_encoding"] > facts.beyond_ascii:
        for encoding in OLD_ENCODINGS:
            csv = CsvOptions(encoding=encoding)
            source = open_source(locations, csv=csv)
            facts = read_facts(source, prefix=prefix)
            if not facts.unreadable["bad_encoding"]:
                break
    remark = ""
    if facts.backslashes and all_csv:
        escaped = replace(csv, escape="\\")
        again = open_source(locations, csv=escaped)
        after = read_facts(again, prefix=prefix)
        # Fewer rows have wrong quotes or another number of fields, and no other rows are lost.
        misread, misread_before = (
            sum(one.unreadable[code] for code in _BY_ESCAPES) for one in (after, facts)
        )
        readable, readable_before = (one.rows - one.unreadable.total() for one in (after, facts))
        if misread < misread_before and readable > readable_before:
            before, now = facts.unreadable.total(), after.unreadable.total()
            remark = f"without `escape`, {counted(before, 'row')} can't be read; with it, {now:,}"
            source, facts, csv = again, after, escaped
    return _Reading(source, facts, _with_delimiter(csv, source, locations), remark)


def _open_likeliest(locations: Sequence[str]) -> tuple[Source, CsvOptions]:
    """The source, and the options it was opened with. Raises SourceError if no encoding helps."""
    # What was read from stdin is gone, so there is only one try.
    encodings = ("utf-8",) if "-" in locations else ("utf-8", *OLD_ENCODINGS)
    failures = []
    for encoding in encodings:
        csv = CsvOptions(encoding=encoding)
        try:
            return open_source(locations, csv=csv), csv
        except SourceError as error:
            failures.append(error)
    raise failures[0]


def _with_delimiter(options: CsvOptions, source: Source, locations: Sequence[str]) -> CsvOptions:
    """The options with the delimiter that the reader found by itself; None where there is only one column."""
    if options.delimiter is not None or source.files[0].format != "csv":
        return options
    names = source.schema(0).names
    for delimiter in _DELIMITERS if len(names) > 1 else ():
        guess = replace(options, delimiter=delimiter)
        if open_source(locations, csv=guess).schema(0).names == names:
            return guess
    return options


# --- the proposal ----------------------------------------------------------------------------------------


def _proposal(reading: _Reading, *, locations: Sequence[str], name: str, file: str) -> Proposal:
    source, facts = reading.source, reading.facts
    choice = choose_id(facts, id_prefix(source))
    named = columns_by_field(
        column.name
        for column in facts.columns.values()
        if not (column.nested or column.faults or column.bytes)
        and column is not choice.facts
        and column.name in facts.everywhere
    )
    empty = {column.name for column in facts.columns.values() if not column.present}
    fields = {
        field: ColumnSpec(column=column, too_long="truncate" if facts.columns[column].too_long else "reject")
        for field, column in mappable(named, empty).items()
    }
    devices = [column for column in facts.columns if is_device_id(column)]
    devices = devices if choice.field == "user_id" else []
    used = {choice.facts.name, *devices, *(spec.column for spec in fields.values())}
    proposals = [
        propose_column(column, facts, named) for name, column in facts.columns.items() if name not in used
    ]
    text = job_text(
        header_lines([file.name for file in source.files], facts, file),
        [f"name: {proposed_name(name)}", *source_lines(locations, reading.csv, reading.remark)],
        identification_lines(choice, fields, devices, proposals),
    )
    notes = [*proposal_notes(facts, choice, proposals)]
    notes += [f"csv.escape: {reading.remark}"] if reading.remark else []
    notes += [warning.message for warning in source.warnings]
    return Proposal(text, tuple(notes), dict(Counter(choice.rejects) + facts.unreadable))
