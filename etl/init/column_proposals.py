"""The part of the job file for each column: a property, a commented line with the reason, or both, as YAML.

A column gets the type that most of its values fit; values that don't fit are skipped, and a remark counts
them.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ..amplitude.requests import MAX_PROPERTIES, MAX_STRING_LENGTH
from ..job.column_spec import ColumnSpec, Step
from ..job.problems import clipped
from ..job.scalars import in_quotes, quoted
from ..reader.csv_reader import NO_NAME
from ..text import counted
from .names import PERSONAL_DATA, Personal, part_of_family, personal
from .type_proposals import ProposedType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .facts import ColumnFacts, SourceFacts

HASH: Final = (Step("trim"), Step("lower"), Step("sha256"))
_MISSING: Final = "Put `missing: null` at the top level to have it null in their rows, and take the # off:"
_LONG: Final = 50  # characters on average, from which on text is prose
_MANY: Final = 50  # different values, from which on nobody groups by them
_TOO_MANY: Final = 0.2  # of the values do not fit what the first ones were
# Data whose values are words, and types that have none.
_WORDS_ONLY: Final = frozenset({"mail", "name", "address", "phone"})
_NO_WORDS: Final = frozenset({"number", "integer", "date", "datetime"})
_NEVER_PLAIN: Final = frozenset({"card", "secret", "national"})


@dataclass(frozen=True, slots=True)
class PropertyLine:
    """One property: its name in the job file, and its spec; `active` lines are not commented out."""

    name: str
    spec: ColumnSpec
    active: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class ColumnProposal:
    """What the job file has of one column: remarks, then lines. `personal`: the kind of its personal data.

    `doubt` is the remark that the terminal shows, too. `no_zone`: it has times that don't say their zone.
    """

    column: str
    remarks: tuple[str, ...]
    lines: tuple[PropertyLine, ...]
    personal: Personal | None = None
    doubt: str | None = None
    no_zone: bool = False

    @property
    def active(self) -> bool:
        """Whether a property is proposed, and not only mentioned."""
        return any(line.active for line in self.lines)

    @property
    def plain(self) -> bool:
        """Whether the column's values are sent as they are."""
        sent = [line.spec for line in self.lines if line.active]
        return any(all(step.verb != "sha256" for step in spec.transform) for spec in sent)


def propose_columns(
    columns: Iterable[ColumnFacts], source: SourceFacts, named: dict[str, str]
) -> list[ColumnProposal]:
    """The proposals for columns that are neither ids nor Amplitude's own fields, up to MAX_PROPERTIES.

    No two active lines have one name. `named` has the columns with names of such fields.
    """
    proposals, names = list[ColumnProposal](), set[str]()
    for column in columns:
        if len(names) >= MAX_PROPERTIES:
            break
        found, lines = propose_column(column, source, named), list[PropertyLine]()
        for line in found.lines:
            name = line.name
            while line.active and name in names:
                name += "_"
            names |= {name} if line.active else set()
            lines.append(replace(line, name=name))
        proposals.append(replace(found, lines=tuple(lines)))
    return proposals


def propose_column(facts: ColumnFacts, source: SourceFacts, named: dict[str, str]) -> ColumnProposal:
    """The proposal for a column that is neither an id nor one of Amplitude's own fields.

    `named` has the columns with names of such fields.
    """
    name = clipped(facts.name)
    if facts.name and facts.name not in source.sendable:
        remark = f"{name} is left out: some files lack it. {_MISSING}"
        return _left_out(facts, remark, column_type(facts).spec)
    if reason := _unusable(facts):
        return _left_out(facts, reason, ColumnSpec(column=facts.name))
    if facts.bytes:
        remark = f"{name} holds bytes and is left out; as hexadecimal digits they can be sent:"
        return _left_out(facts, remark, ColumnSpec(column=facts.name, transform=(Step("hex"),)))
    about = about_people(facts)
    if about:
        return _hidden(facts, about)
    proposed = column_type(facts)
    remarks = [part] if (part := part_of_family(facts.name, named)) else []
    if facts.too_long:
        values = counted(facts.too_long, "value")
        remarks.append(f"{name}: {values} of more than {MAX_STRING_LENGTH:,} characters will be cut.")
    if facts.rows > 1 and facts.distinct == 1 and not facts.missing and facts.present == facts.rows:
        remarks.append(f"{name} has the same value in every row.")
    if facts.present and facts.characters / facts.present > _LONG and facts.distinct > _MANY:
        remarks.append(f"{name} is free text: charts can't group by it.")
    remarks += [proposed.remark] if proposed.remark else []
    note = [proposed.kind]
    if not facts.nested:
        about_ = "" if facts.exact or facts.ids.distinct.exact else "about "
        note.append(f"{about_}{facts.distinct:,} different")
    if facts.missing:
        note.append(f"{facts.missing:,} of {counted(facts.rows, 'row')} empty")
    lines = [PropertyLine(_property(facts.name), proposed.nearly, active=False)] if proposed.nearly else []
    spec = proposed.spec
    if facts.padded and spec == facts.as_text:
        spec = replace(spec, transform=(Step("trim"),))
        note.append("most with spaces around them")
    lines.append(PropertyLine(_property(facts.name), spec, note=", ".join(note)))
    doubt = proposed.remark if lines[-1].spec.invalid == "skip" or proposed.parts or proposed.nearly else None
    return ColumnProposal(facts.name, tuple(remarks), tuple(lines), doubt=doubt, no_zone=proposed.no_zone)


def about_people(facts: ColumnFacts) -> Personal | None:
    """The kind of personal data that a column has, if any; the values count more than the name."""
    by_content: tuple[Personal, ...] = ("card", "mail", "national", "phone", "ip")
    likely = [kind for kind in by_content if facts.sample.likely(kind)]
    named = personal(facts.name)
    few_cards = facts.sample.weight(facts.sample.fit("card")) < 3
    if "card" in likely and few_cards and named != "card":
        likely.remove("card")  # one number in ten has the right check sum by chance
    if named in _NEVER_PLAIN and "mail" not in likely:
        return named
    if likely:
        return likely[0]
    # The name alone, unless the values can't be it: `email` may hold yes and no, `phone_calls` a number.
    if "bool" in facts.types or (named == "mail" and facts.present and not (facts.text or facts.bytes)):
        return None
    if named == "mail" and facts.sample.total and not facts.sample.fit("mail").any():
        return None
    spec = facts.proposed.spec
    if spec.type == "boolean" or spec.values or (named in _WORDS_ONLY and spec.type in _NO_WORDS):
        return None
    return named


def _unusable(facts: ColumnFacts) -> str | None:
    if not facts.name:
        return "A column without a name is left out: a job file can't name it."
    name = clipped(facts.name)
    if facts.name.startswith(f"{NO_NAME} (column "):
        return f"{name} is left out: name it in the source, or give the property a name and take the # off:"
    if facts.rows and facts.missing == facts.rows and not facts.ids.lost:
        return f"{name} is left out: it has no value in any row."
    if facts.faults and facts.fault_place:
        codes = ", ".join(f"{count:,} {code}" for code, count in sorted(facts.faults.items()))
        place = f"the first is row {facts.fault_place[1]:,}"
        return f"{name} is left out, as its rows would be rejects ({codes}; {place})."
    return None


def _left_out(facts: ColumnFacts, remark: str, spec: ColumnSpec) -> ColumnProposal:
    lines = (PropertyLine(_property(facts.name), spec, active=False),) if facts.name else ()
    return ColumnProposal(facts.name, (remark,), lines)


def _hidden(facts: ColumnFacts, about: Personal) -> ColumnProposal:
    data = PERSONAL_DATA[about]
    remark = f"Personal data: {clipped(facts.name)} has {data['has']}."
    plainly = about not in _NEVER_PLAIN
    safe = plainly and not facts.empty_texts
    if safe:
        remark += f" Only a hash is sent, by which known {data['values']} can still be found."
    elif plainly:
        remark += " As a hash they would do, but empty texts would all get the same hash:"
    else:
        remark += " Leave it out; if you must tell values apart, send a hash:"
    name = f"{_property(facts.name)}_{'hash' if facts.name.endswith('sha256') else 'sha256'}"
    spec = ColumnSpec(column=facts.name, path=facts.path, nulls=facts.own_nulls)
    hashed = PropertyLine(name, replace(spec, transform=HASH), active=safe)
    plain = PropertyLine(_property(facts.name), spec, active=False)
    return ColumnProposal(facts.name, (remark,), (plain, hashed) if plainly else (hashed,), about)


def _property(column: str) -> str:
    """The property for a column: without spaces around it.

    Amplitude keeps names that begin with `$` for itself, and YAML `<<`.
    """
    name = column.strip().lstrip("$").strip()
    return (name if name and name != "<<" else f"column {column}".strip())[:900]


def column_type(facts: ColumnFacts) -> ProposedType:
    """The type to propose for a column with values that can be sent, and the remark on it."""
    found = facts.proposed
    spec = replace(found.spec, path=facts.path, nulls=facts.own_nulls)
    if facts.too_long and spec.type in {None, "json", "list"}:
        spec = replace(spec, too_long="truncate")
    if not facts.text or facts.bytes:
        kind = found.kind if spec.type else " or ".join(facts.types)
        return replace(found, spec=spec, kind=kind)
    total, bad = facts.rows - facts.missing, facts.misfits
    if bad > total * _TOO_MANY:
        remark = (
            f"{clipped(facts.name)} stays text: {bad:,} of {counted(total, 'value')} are not {found.kind}."
        )
        return ProposedType(facts.as_text, "text", remark, spec)
    remarks = []
    if found.parts:
        (first, count), *others = ((name, facts.by_part[place]) for place, name in enumerate(found.parts))
        more = "; ".join(f"{number:,} as {name}" for name, number in others)
        taken = "both" if len(others) == 1 else "all"
        remarks.append(f"{count:,} of {total:,} are dates as {first}; {more}: {taken} taken")
    if bad:
        word = min(facts.misfit_texts, key=lambda text: (-facts.misfit_texts[text], text))
        says = "1 value does" if bad == 1 else f"{bad:,} values do"
        remarks.append(f"{says} not fit, e.g. {in_quotes(word[:40])}: skipped")
        spec = replace(spec, invalid="skip")
    counts = f"{clipped(facts.name)}: {'; '.join(remarks)}." if remarks else None
    return replace(found, spec=spec, remark=" ".join(filter(None, (found.remark, counts))) or None)


# --- as YAML ---------------------------------------------------------------------------------------------

_WIDTH: Final = 110


def property_line(line: PropertyLine) -> str:
    """A property's line of the job file, with its note beside it, or above where it is too long."""
    text = f"{'    ' if line.active else '    # '}{quoted(line.name)}: {spec_text(line.spec)}"
    beside = f"{text}   # {line.note}" if line.note else text
    return beside if len(beside) <= _WIDTH else f"{comment(line.note, 4)}\n{text}"


def spec_text(spec: ColumnSpec) -> str:
    """A column spec as one line of YAML: a bare column, or a mapping of what isn't the default."""
    column = quoted(spec.column or "")
    parts = [f"column: {column}"]
    if spec.path:
        parts.append(f"path: {in_quotes('.'.join(spec.path))}")
    steps = []
    for step in spec.transform:
        texts = [in_quotes(text) for text in (step.argument, *step.formats) if text]
        argument = f"[{', '.join(texts)}]" if len(texts) > 1 else "".join(texts)
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
