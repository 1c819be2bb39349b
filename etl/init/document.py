"""A proposal as a commented job file."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Final

from etl.amplitude import MAX_PROPERTIES
from etl.init.id_remarks import id_remarks, other_ids
from etl.init.quoting import in_quotes, quoted, spec_text
from etl.init.wording import shown
from etl.job import CsvOptions
from etl.wording import counted, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from etl.init.entries import Entry, Line
    from etl.init.identity import Identity
    from etl.job import ColumnSpec

_WIDTH: Final = 110
_LINK: Final = "a device id beside a user id links the two for good. Take the # off only if you want that:"
_TRANSPORT: Final = (
    "Updates go over the Identify API. Take the # off to send them as events over the Batch API: with $add, "
    "$append or $prepend every row then counts once, also after a lost answer, and requests are compressed."
)
_NO_PROPERTIES: Final = "No column is left for properties, so there is nothing to send yet."
_TOO_MANY: Final = (
    f"Amplitude takes {MAX_PROPERTIES:,} properties in one update; the columns after these are left out."
)


def header(files: Sequence[str], rows: int, columns: int, file: str) -> Iterator[str]:
    """What the file is and what to do with it."""
    more = f" and {counted(len(files) - 1, 'more file')}" if len(files) > 1 else ""
    size = f"{counted(rows, 'row')}, {counted(columns, 'column')}"
    yield from comment(f"Proposed by `propsync init`, which read all of {shown(files[0])}{more}: {size}.", 0)
    file = visible(shlex.quote(file))  # a line end in it would end the comment
    yield "# Read it, correct it, then:"
    yield f"#   propsync check {file}      counts, rejects and time; sends nothing"
    yield f"#   propsync preview {file}    the first identifications"
    yield f"#   propsync run {file}        sends them, with the key in AMPLITUDE_API_KEY"


def source_lines(locations: Sequence[str], csv: CsvOptions, remark: str = "") -> Iterator[str]:
    """The keys `source` and `csv`; `remark` says why there is an escape character."""
    written = [quoted(location.replace("$", "$$")) for location in locations]
    if len(written) == 1:
        yield f"source: {written[0]}"
    elif written:
        yield "source:"
        yield from (f"  - {location}" for location in written)
    else:
        yield "# source: users.csv   # the rows came from memory"
    if csv.delimiter not in {None, ","} or csv.encoding != "utf-8" or csv.escape:
        yield "csv:"
    if csv.delimiter not in {None, ","}:
        yield f"  delimiter: {'tab' if csv.delimiter == chr(9) else in_quotes(csv.delimiter or '')}"
    if csv.encoding != "utf-8":
        yield f"  encoding: {csv.encoding}   # the files are not UTF-8: check letters such as é in a preview"
    if csv.escape:
        yield f"  escape: {in_quotes(csv.escape)}{f'   # {remark}' if remark else ''}"


def identification_lines(
    identity: Identity, fields: Mapping[str, ColumnSpec], devices: Sequence[str], entries: Sequence[Entry]
) -> Iterator[str]:
    """The key `identification`."""
    yield "identification:"
    for remark in id_remarks(identity):
        yield from comment(remark, 2)
    yield f"  {identity.field}: {spec_text(identity.spec)}"
    if others := other_ids(identity):
        yield "  # Or one of these in its place:"
        yield from (f"  #   {line}" for line in others)
    for device in devices:
        yield from comment(f"{shown(device)}: {_LINK}", 2)
        yield f"  # device_id: {quoted(device)}"
    if fields:
        yield from comment("Fields of Amplitude's own:", 2)
        yield from (f"  {name}: {spec_text(spec)}" for name, spec in fields.items())
    yield from _property_lines(entries)


def destination_lines() -> Iterator[str]:
    """The key `destination`."""
    yield "destination:"
    yield "  region: us   # or eu: where your Amplitude project is"
    yield from comment(_TRANSPORT, 2)
    yield "  # transport: batch"


def comment(text: str, indent: int) -> Iterator[str]:
    """A text as comment lines."""
    begin = f"{' ' * indent}# "
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=begin,
        subsequent_indent=begin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _property_lines(entries: Sequence[Entry]) -> Iterator[str]:
    yield "  user_properties:"
    taken: set[str] = set()
    active = 0
    for entry in entries:
        if active >= MAX_PROPERTIES:
            yield from comment(_TOO_MANY, 4)
            return
        for remark in entry.remarks:
            yield from comment(remark, 4)
        for line in entry.lines:
            active += line.active
            yield from _lines(line, _untaken(line, taken))
    if not active:
        yield from comment(_NO_PROPERTIES, 4)


def _untaken(line: Line, taken: set[str]) -> str:
    """The line's name, changed if an active line has it already."""
    name = line.name
    while line.active and name in taken:
        name += "_"
    if line.active:
        taken.add(name)
    return name


def _lines(line: Line, name: str) -> Iterator[str]:
    begin = "    " if line.active else "    # "
    text = f"{begin}{quoted(name)}: {spec_text(line.spec)}"
    beside = f"{text}   # {line.note}" if line.note else text
    if len(beside) <= _WIDTH:
        yield beside
    else:
        yield from comment(line.note, 4)
        yield text


def text_of(*parts: Iterable[str]) -> str:
    """Parts of a job file as its text, an empty line between them."""
    return "\n\n".join("\n".join(part) for part in parts) + "\n"
