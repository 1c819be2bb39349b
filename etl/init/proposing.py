"""A source that was read as a whole becomes the job file that its author would have begun with."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, Literal

from etl.amplitude import MIN_ID_LENGTH
from etl.init.document import (
    comment,
    destination_lines,
    header,
    identification_lines,
    source_lines,
    text_of,
)
from etl.init.entries import entry
from etl.init.families import columns_by_field, mappable
from etl.init.identity import choose
from etl.init.names import is_device_id
from etl.init.notes import notes_of, unreadable
from etl.init.opening import (
    OLD_ENCODINGS,
    is_escaped,
    is_old,
    open_likeliest,
    with_delimiter,
    with_escape,
)
from etl.init.survey import Survey, survey
from etl.job import ColumnSpec, CsvOptions
from etl.reader import Source, open_source
from etl.wording import counted

if TYPE_CHECKING:
    from etl.init.identity import Identity

_MAX_NAME: Final = 60


@dataclass(frozen=True, slots=True)
class Proposal:
    """A job file's `text`, and `notes` for the terminal, one line each.

    `rejects` counts the rows that a run of the job will turn away, by reject code; both texts tell of them.
    """

    text: str
    notes: tuple[str, ...]
    rejects: Mapping[str, int]


def propose_job(locations: Sequence[str], output: Path | None) -> Proposal:
    """Read what `locations` name (relative to the current folder), to be written to `output` or to stdout.

    Reads all of it, twice if it turns out not to be UTF-8. Raises SourceError.
    """
    here = Path()
    source, csv = open_likeliest(locations, here)
    prefix = prefix_of(source)
    found = survey(source, prefix=prefix)
    if is_old(found, source, csv):
        source, found, csv = _reread(locations, prefix)
    source, found, csv, escapes = _unescaped(locations, prefix, source, found, csv)
    csv = with_delimiter(csv, source, locations, here)
    name = output.name if output else f"{_stem(source.files[0].name)}.yml"
    folder = output.parent if output else here
    written = [_seen_from(folder, location) for location in locations]
    return _proposal(
        found,
        source,
        locations=written,
        name=PurePath(name).stem,
        csv=csv,
        file=str(output or name),
        remark=escapes,
    )


def propose(
    source: Source,
    *,
    locations: Sequence[str],
    name: str,
    csv: CsvOptions | None = None,
    file: str | None = None,
) -> Proposal:
    """Read all of `source` and propose a job called `name` for it.

    `locations` are what the job file's `source` shall say, as seen from its folder; `csv` is what the source
    was opened with; `file` is how comments call the job file. Raises SourceError.
    """
    found = survey(source, prefix=prefix_of(source))
    return _proposal(
        found,
        source,
        locations=locations,
        name=name,
        csv=csv or CsvOptions(),
        file=file or f"{job_name(name)}.yml",
    )


def prefix_of(source: Source) -> str:
    """What ids get that are too short: the first word of the first file's name and a dash, long enough."""
    stem = _stem(source.files[0].name) if source.files else ""
    words = re.findall(r"[^\W_]+", stem)
    word = next(
        (word.lower() for word in words if len(word) >= MIN_ID_LENGTH - 2 and not word.isdigit()), "user"
    )
    return f"{word[:_MAX_NAME]}-"


def job_name(text: str) -> str:
    """The text as the name of a job."""
    name = re.sub(r"[^\w.-]+", "-", text).lstrip("-.")[:_MAX_NAME].rstrip("-.")
    return name or "users"


def _proposal(
    found: Survey,
    source: Source,
    *,
    locations: Sequence[str],
    name: str,
    csv: CsvOptions,
    file: str,
    remark: str = "",
) -> Proposal:
    identity = choose(found, prefix_of(source))
    named = _named(found, identity)
    fields = _fields(found, named)
    devices = [column for column in found.columns if is_device_id(column)]
    devices = devices if identity.field == "user_id" else []
    spoken_for = {identity.facts.name, *devices, *(spec.column for spec in fields.values())}
    entries = [
        entry(facts, found, named) for column, facts in found.columns.items() if column not in spoken_for
    ]
    files = [file.name for file in source.files]
    text = text_of(
        [*header(files, found.rows, len(found.columns), file), *_lines_of(unreadable(found))],
        [f"name: {job_name(name)}", *source_lines(locations, csv, remark)],
        identification_lines(identity, fields, devices, entries),
        destination_lines(),
    )
    rejects = Counter(identity.rejects) + found.unreadable
    notes = [*notes_of(found, identity, entries), *([f"csv.escape: {remark}"] if remark else [])]
    notes += [warning.message for warning in source.warnings]
    return Proposal(text, tuple(notes), dict(rejects))


def _lines_of(sentences: Iterable[str]) -> list[str]:
    return [line for sentence in sentences for line in comment(f"{sentence}.", 0)]


def _named(found: Survey, identity: Identity) -> dict[str, str]:
    """The columns with names of Amplitude's own fields whose values can be sent as text."""
    usable = [facts for facts in found.columns.values() if not (facts.nested or facts.faults or facts.bytes)]
    return columns_by_field(
        facts.name for facts in usable if facts is not identity.facts and facts.name in found.everywhere
    )


def _fields(found: Survey, named: dict[str, str]) -> dict[str, ColumnSpec]:
    empty = {facts.name for facts in found.columns.values() if not facts.present}
    specs = {}
    for field, column in mappable(named, empty).items():
        too_long: Literal["truncate", "reject"] = "truncate" if found.columns[column].too_long else "reject"
        specs[field] = ColumnSpec(column=column, too_long=too_long)
    return specs


def _reread(locations: Sequence[str], prefix: str) -> tuple[Source, Survey, CsvOptions]:
    """Read again in the first old encoding in which all bytes are letters; the last takes anything."""
    for encoding in OLD_ENCODINGS:
        csv = CsvOptions(encoding=encoding)
        source = open_source(locations, csv=csv)
        found = survey(source, prefix=prefix)
        if not found.unreadable["bad_encoding"]:
            break
    return source, found, csv


def _unescaped(
    locations: Sequence[str], prefix: str, source: Source, found: Survey, csv: CsvOptions
) -> tuple[Source, Survey, CsvOptions, str]:
    """Read again with an escape character where that may help; and how much it did, "" for not at all."""
    escaped = with_escape(csv, source, found)
    if escaped is None:
        return source, found, csv, ""
    again = open_source(locations, csv=escaped)
    after = survey(again, prefix=prefix)
    if not is_escaped(after, found):
        return source, found, csv, ""
    before, now = found.unreadable.total(), after.unreadable.total()
    remark = f"without `escape`, {counted(before, 'row')} can't be read; with it, {now:,}"
    return again, after, escaped, remark


def _stem(name: str) -> str:
    return PurePath(name).name.partition(".")[0]


def _seen_from(folder: Path, location: str) -> str:
    """A relative path as it must be written in a file in `folder`; anything else as it is."""
    if location == "-" or "://" in location or location.startswith(("/", "~")):
        return location
    return Path(os.path.relpath(location, folder)).as_posix()
