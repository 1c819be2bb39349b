"""What `init` writes: a proposal as a commented job file, and the notes for the terminal."""

from __future__ import annotations

import re
import textwrap
from importlib import resources
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, StrictUndefined

from ..amplitude.limits import MAX_PROPERTIES, MIN_ID_LENGTH
from ..job.problems import clipped
from ..text import counted
from .id_choice import id_rejects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..job import ColumnSpec
    from .column_proposals import ColumnProposal
    from .facts import SourceFacts
    from .id_choice import IdChoice

_WIDTH: Final = 110
_NO_PROPERTIES: Final = "No column is left for properties, so there is nothing to send yet."
_TOO_MANY: Final = (
    f"Amplitude takes {MAX_PROPERTIES:,} properties in one update; the columns after these are left out."
)
_UNSEEN: Final = "{} left out: of a source this wide, `init` looks at the first columns and at likely ids."
_MOST_NAMED: Final = 12
_BARE: Final = re.compile(r"(?:\.{0,2}/)*[A-Za-z_][A-Za-z0-9_./-]*")
# What some YAML reader takes for something other than text.
_WORDS: Final = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])


def quoted(text: str) -> str:
    """The text as a YAML scalar, in quotes only where it needs them."""
    return text if _BARE.fullmatch(text) and text.lower() not in _WORDS else in_quotes(text)


def in_quotes(text: str) -> str:
    """The text as a double-quoted YAML scalar; PyYAML would leave signs in it that turn text around."""
    signs = []
    for sign in text:
        escaped = f"\\{sign}" if sign in '"\\' else sign.encode("unicode_escape").decode()
        signs.append(sign if sign.isprintable() and sign not in '"\\' else escaped)
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


def comment(text: str, indent: int = 0) -> str:
    """A text as comment lines."""
    begin = f"{' ' * indent}# "
    wrapper = textwrap.TextWrapper(_WIDTH, begin, begin, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(text)


def job_text(
    source: SourceFacts, choice: IdChoice, proposals: Sequence[ColumnProposal], **rest: object
) -> str:
    """A proposal as the text of a job file; `rest` is what else the template asks for."""
    environment = Environment(  # noqa: S701 - it is no HTML
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    filters = {"clipped": clipped, "comment": comment, "counted": counted, "in_quotes": in_quotes}
    environment.filters.update(filters, quoted=quoted, spec=spec_text)
    template = resources.files(__package__).joinpath("job_file.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        source=source,
        choice=choice,
        id_rejects=id_rejects(choice),
        min_id_length=MIN_ID_LENGTH,
        unreadable=list(_unreadable(source)),
        properties=list(_property_lines(proposals, source.width - len(source.columns))),
        **rest,
    )


def _property_lines(proposals: Sequence[ColumnProposal], unseen: int) -> Iterator[str]:
    active: set[str] = set()
    for proposal in proposals:
        if len(active) >= MAX_PROPERTIES:
            yield comment(_TOO_MANY, 4)
            break
        for remark in proposal.remarks:
            yield comment(remark, 4)
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
                yield comment(line.note, 4)
                yield text
    else:
        if unseen:
            yield comment(_UNSEEN.format(counted(unseen, "column is", "columns are")), 4)
    if not active:
        yield comment(_NO_PROPERTIES, 4)


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
    if choice.mail:
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
