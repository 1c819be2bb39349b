"""What `init` writes: a proposal as a commented job file, and the notes for the terminal."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Final

from ..amplitude.limits import MAX_PROPERTIES
from ..job import CsvOptions
from ..job.problems import clipped
from ..text import counted, shell_word, visible
from .id_choice import id_rejects, id_remarks, is_mail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..job import ColumnSpec
    from .column_proposals import ColumnProposal
    from .facts import SourceFacts
    from .id_choice import IdChoice

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
_UNSEEN: Final = "{} left out: of a source this wide, `init` looks at the first columns and at likely ids."
_MOST_NAMED: Final = 12
_BARE: Final = re.compile(r"(?:\.{0,2}/)*[A-Za-z_][A-Za-z0-9_./-]*")
# What some YAML reader takes for something other than text.
_WORDS: Final = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])

_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def quoted(text: str) -> str:
    """The text as a YAML scalar, in quotes only where it needs them."""
    return text if _BARE.fullmatch(text) and text.lower() not in _WORDS else in_quotes(text)


def in_quotes(text: str) -> str:
    """The text as a double-quoted YAML scalar; PyYAML would leave signs in it that turn text around."""
    signs = []
    for sign in text:
        code = ord(sign)
        by_code = (
            f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        )
        signs.append(_ESCAPES.get(sign) or (sign if sign.isprintable() else by_code))
    return f'"{"".join(signs)}"'


def spec_text(spec: ColumnSpec) -> str:
    """A column spec as one line of YAML: a bare column, or a mapping of what isn't the default."""
    column = quoted(spec.column or "")
    parts = [f"column: {column}"]
    if spec.path:
        parts.append(f"path: {in_quotes('.'.join(spec.path))}")
    steps = []
    for step in spec.transform:
        argument = in_quotes(step.argument) if step.argument else ""
        if step.formats:
            argument = f"[{', '.join(map(in_quotes, step.formats))}]"
        steps.append(f"{{{step.verb}: {argument}}}" if argument else step.verb)
    if steps:
        parts.append(f"transform: [{', '.join(steps)}]")
    if spec.type is not None:
        parts.append(f"type: {spec.type}")
    signs = {"decimal": spec.decimal.replace(".", ""), "thousands": spec.thousands, "strip": spec.strip}
    signs["separator"] = spec.separator if spec.separator != "," else ""
    parts += [f"{key}: {in_quotes(sign)}" for key, sign in signs.items() if sign]
    if spec.values:
        parts.append(f"values: {{{', '.join(f'{quoted(word)}: {meant}' for word, meant in spec.values)}}}")
    words = {"unit": spec.unit, "too_long": spec.too_long, "invalid": spec.invalid}
    parts += [f"{key}: {word}" for key, word in words.items() if word not in {None, "reject"}]
    if spec.nulls:
        parts.append(f"nulls: [{', '.join(map(in_quotes, spec.nulls))}]")
    return column if len(parts) == 1 else f"{{{', '.join(parts)}}}"


def comment(text: str, indent: int) -> Iterator[str]:
    """A text as comment lines."""
    begin = f"{' ' * indent}# "
    wrapper = textwrap.TextWrapper(_WIDTH, begin, begin, break_long_words=False, break_on_hyphens=False)
    yield from wrapper.wrap(text)


def job_text(*parts: Iterable[str]) -> str:
    """Parts of a job file as its text, an empty line between them."""
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def header_lines(files: Sequence[str], source: SourceFacts, file: str) -> Iterator[str]:
    """What the file is and what to do with it, and the rows that can't be read."""
    more = f" and {counted(len(files) - 1, 'more file')}" if len(files) > 1 else ""
    size = f"{counted(source.rows, 'row')}, {counted(source.width, 'column')}"
    yield from comment(
        f"Proposed by `propsync init`, which read all of {clipped(files[0])}{more}: {size}.", 0
    )
    file = visible(shell_word(file))  # a line end in it would end the comment
    yield "# Read it, correct it, then:"
    yield f"#   propsync check {file}      counts, rejects and time; sends nothing"
    yield f"#   propsync preview {file}    the first identifications"
    yield f"#   propsync run {file}        sends them, with the key in AMPLITUDE_API_KEY"
    for sentence in _unreadable(source):
        yield from comment(f"{sentence}.", 0)


def source_lines(
    locations: Sequence[str], csv: CsvOptions, nulls: Sequence[str] = (), remark: str = ""
) -> Iterator[str]:
    """The keys `source`, `csv` and `nulls`; `remark` is why there is an escape character."""
    written = [quoted(location.replace("$", "$$")) for location in locations]
    if len(written) == 1:
        yield f"source: {written[0]}"
    elif written:
        yield "source:"
        yield from (f"  - {location}" for location in written)
    else:
        yield "# source: users.csv   # the rows came from memory"
    keys = []
    if csv.delimiter not in {None, ","}:
        keys.append(f"  delimiter: {'tab' if csv.delimiter == chr(9) else in_quotes(csv.delimiter or '')}")
    if csv.encoding != "utf-8":
        keys.append(
            f"  encoding: {csv.encoding}   # the files are not UTF-8: check letters such as é in a preview"
        )
    if csv.header:
        names = ", ".join(map(in_quotes, csv.header))
        keys.append(f"  header: [{names}]   # the first line looks like data: name the columns")
    if csv.skip_rows:
        keys.append(f"  skip_rows: {csv.skip_rows}   # lines above the header")
    if csv.escape:
        keys.append(f"  escape: {in_quotes(csv.escape)}{f'   # {remark}' if remark else ''}")
    yield from ["csv:", *keys] if keys else ()
    if nulls:
        yield f"nulls: [{', '.join(map(in_quotes, nulls))}]   # words for null that were found"


def identification_lines(
    choice: IdChoice,
    fields: Mapping[str, ColumnSpec],
    devices: Sequence[str],
    proposals: Sequence[ColumnProposal],
    unseen: int = 0,
) -> Iterator[str]:
    """The keys `identification` and `destination`; so many columns are `unseen`."""
    yield "identification:"
    for remark in id_remarks(choice):
        yield from comment(remark, 2)
    yield f"  {choice.field}: {spec_text(choice.spec)}"
    if choice.others:
        yield "  # Or one of these in its place:"
        yield from (f"  #   {choice.field}: {spec_text(spec)}" for spec, _ in choice.others)
    for device in devices:
        yield from comment(f"{clipped(device)}: {_LINK}", 2)
        yield f"  # device_id: {quoted(device)}"
    if fields:
        yield from comment("Fields of Amplitude's own:", 2)
        yield from (f"  {name}: {spec_text(spec)}" for name, spec in fields.items())
    yield from _property_lines(proposals, unseen)
    yield ""
    yield "destination:"
    yield "  region: us   # or eu: where your Amplitude project is"
    yield from comment(_TRANSPORT, 2)
    yield "  # transport: batch"


def _property_lines(proposals: Sequence[ColumnProposal], unseen: int) -> Iterator[str]:
    yield "  user_properties:"
    active: set[str] = set()
    for proposal in proposals:
        if len(active) >= MAX_PROPERTIES:
            yield from comment(_TOO_MANY, 4)
            break
        for remark in proposal.remarks:
            yield from comment(remark, 4)
        for line in proposal.lines:
            name = line.name
            while line.active and name in active:
                name += "_"
            if line.active:
                active.add(name)
            text = f"{'    ' if line.active else '    # '}{quoted(name)}: {spec_text(line.spec)}"
            beside = f"{text}   # {line.note}" if line.note else text
            if len(beside) <= _WIDTH:
                yield beside
            else:
                yield from comment(line.note, 4)
                yield text
    else:
        if unseen:
            yield from comment(_UNSEEN.format(counted(unseen, "column is", "columns are")), 4)
    if not active:
        yield from comment(_NO_PROPERTIES, 4)


def proposal_notes(
    source: SourceFacts, choice: IdChoice, proposals: Sequence[ColumnProposal]
) -> Iterator[str]:
    """What a user should see at once, before reading the job file: one line each."""
    rows, columns = counted(source.rows, "row"), counted(source.width, "column")
    yield f"read {rows}, {columns}; {choice.field}: {spec_text(choice.spec)}"
    if choice.reason == "last resort":
        yield f"no column looks like an id: {clipped(choice.facts.name)} is a guess, check it"
    yield from (sentence.rstrip(".") for sentence in id_rejects(choice))
    yield from _unreadable(source)
    sent = [clipped(one.column) for one in proposals if one.personal and one.plain]
    if is_mail(choice.facts):
        sent.insert(0, f"{clipped(choice.facts.name)} (as the id)")
    if sent:
        yield f"personal data that would be sent as it is: {_few(sent)}"
    if hidden := [clipped(one.column) for one in proposals if one.personal and not one.plain]:
        yield f"personal data that is hashed or left out: {_few(hidden)}"
    rest = [one for one in proposals if not one.personal and not any(line.active for line in one.lines)]
    yield from (one.doubt.rstrip(".") for one in proposals if one.doubt)
    if local := [clipped(one.column) for one in proposals if one.no_zone]:
        yield f"times without a zone are taken as UTC, unless you add `timezone`: {_few(local)}"
    if rest:
        yield f"left out: {_few([clipped(one.column) for one in rest])} (the job file says why)"


def _few(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _unreadable(source: SourceFacts) -> Iterator[str]:
    if source.first_unreadable:
        name, row = source.first_unreadable
        codes = ", ".join(f"{count:,} {code}" for code, count in sorted(source.unreadable.items()))
        total = counted(source.unreadable.total(), "row")
        first = f"the first is row {row:,} of {clipped(name)}"
        yield f"{total} can't be read and will be rejected ({codes}; {first})"
