"""What is proposed for each column: a property, a commented line with the reason, or both.

A column gets the type that all its values fit; where a few don't, or two types fit, it stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ..amplitude.limits import MAX_STRING_LENGTH
from ..job import ColumnSpec, Step
from ..job.problems import clipped
from ..text import counted
from .names import Personal, is_code, part_of_family, personal
from .text_types import date_spec, one_meaning

if TYPE_CHECKING:
    from .facts import ColumnFacts, SourceFacts
    from .text_types import Trial

HASH: Final = (Step("trim"), Step("lower"), Step("sha256"))
_MISSING: Final = "Put `missing: null` at the top level to have it null in their rows, and take the # off:"
_LONG: Final = 50  # characters on average, from which on text is prose
_MANY: Final = 50  # different values, from which on nobody groups by them
_YES: Final = frozenset({"true", "t", "yes", "y"})
_NO: Final = frozenset({"false", "f", "no", "n"})
_COMMAS: Final = ("number with commas for points", "number with commas between thousands")
_TYPES: Final = ("integer", "number", *_COMMAS, "boolean", "date", "datetime", "json")
# What is worth reading out of text that a file calls text.
_TYPES_OF_STRINGS: Final = ("datetime", "json")
_WHAT: Final[dict[Personal, str]] = {
    "card": "card or account numbers",
    "secret": "secrets",
    "national": "numbers by which a state knows people",
    "mail": "mail addresses",
    "phone": "phone numbers",
    "ip": "IP addresses",
    "birth": "dates of birth",
    "name": "names of people",
    "address": "places where people live",
}
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
    """What the job file has of one column: sentences, then lines. `personal`: what it knows of people."""

    column: str
    remarks: tuple[str, ...]
    lines: tuple[PropertyLine, ...]
    personal: Personal | None = None

    @property
    def plain(self) -> bool:
        """Whether the column's values are sent as they are."""
        sent = [line.spec for line in self.lines if line.active]
        return any(all(step.verb != "sha256" for step in spec.transform) for spec in sent)


@dataclass(frozen=True, slots=True)
class ProposedType:
    """How a column is read: a spec, words for its kind, why if that isn't plain, a spec that nearly fits."""

    spec: ColumnSpec
    kind: str
    remark: str | None = None
    nearly: ColumnSpec | None = None


def propose_column(facts: ColumnFacts, source: SourceFacts, named: dict[str, str]) -> ColumnProposal:
    """The proposal for a column that is neither an id nor one of Amplitude's own fields.

    `named` has the columns with names of such fields.
    """
    name = clipped(facts.name)
    if facts.name and facts.name not in source.sendable:
        remark = f"{name} is left out: some files lack it. {_MISSING}"
        return _left_out(facts, remark, propose_type(facts).spec)
    if reason := _unusable(facts):
        return _left_out(facts, reason, ColumnSpec(column=facts.name))
    if facts.bytes:
        remark = f"{name} holds bytes and is left out; as hexadecimal digits they can be sent:"
        return _left_out(facts, remark, ColumnSpec(column=facts.name, transform=(Step("hex"),)))
    about = about_people(facts)
    if about in _NEVER_PLAIN or about == "mail":
        return _hidden(facts, about)
    proposed = propose_type(facts)
    remarks = [f"Personal data: {name} has {_WHAT[about]}."] if about else []
    remarks += [part] if (part := part_of_family(facts.name, named)) else []
    if facts.too_long:
        values = counted(facts.too_long, "value")
        remarks.append(f"{name}: {values} of more than {MAX_STRING_LENGTH:,} characters will be cut.")
    if facts.rows > 1 and facts.distinct == 1 and facts.present == facts.rows:
        remarks.append(f"{name} has the same value in every row.")
    if facts.present and facts.characters / facts.present > _LONG and facts.distinct > _MANY:
        remarks.append(f"{name} is free text: charts can't group by it.")
    remarks += [proposed.remark] if proposed.remark else []
    note = [proposed.kind]
    if not facts.nested:
        note.append(f"{'' if facts.ids.distinct.exact else 'about '}{facts.distinct:,} different")
    if facts.missing:
        note.append(f"{facts.missing:,} of {counted(facts.rows, 'row')} empty")
    lines = [PropertyLine(_property(facts.name), proposed.nearly, active=False)] if proposed.nearly else []
    lines.append(PropertyLine(_property(facts.name), proposed.spec, note=", ".join(note)))
    return ColumnProposal(facts.name, tuple(remarks), tuple(lines), about)


def about_people(facts: ColumnFacts) -> Personal | None:
    """What a column knows of people; the values count more than the name."""
    by_content: tuple[Personal, ...] = ("card", "mail", "national", "phone", "ip")
    likely = [kind for kind in by_content if facts.shapes[kind].likely]
    named = personal(facts.name)
    if "card" in likely and facts.shapes["card"].fits < 3 and named != "card":
        likely.remove("card")  # one number in ten has the right check sum by chance
    if named in _NEVER_PLAIN and "mail" not in likely:
        return named
    if likely:
        return likely[0]
    # The name alone, unless the values can't be it: `email` may hold yes and no.
    no_mail = named == "mail" and (not facts.text or facts.shapes["mail"].fits == 0)
    return None if no_mail or "bool" in facts.types else named


def _unusable(facts: ColumnFacts) -> str | None:
    if not facts.name:
        return "A column without a name is left out: a job file can't name it."
    name = clipped(facts.name)
    if facts.rows and not facts.present:
        return f"{name} is left out: it has no value in any row."
    if facts.faults and facts.fault_place:
        codes = ", ".join(f"{count:,} {code}" for code, count in sorted(facts.faults.items()))
        place = f"the first is row {facts.fault_place[1]:,}"
        return f"{name} is left out, as its rows would be rejects ({codes}; {place})."
    return None


def _left_out(facts: ColumnFacts, remark: str, spec: ColumnSpec) -> ColumnProposal:
    return ColumnProposal(
        facts.name,
        (remark,),
        (PropertyLine(_property(facts.name), spec, active=False),) if facts.name else (),
    )


def _hidden(facts: ColumnFacts, about: Personal) -> ColumnProposal:
    remark = f"Personal data: {clipped(facts.name)} has {_WHAT[about]}."
    mail = about == "mail"
    safe = mail and not facts.empty_texts
    if safe:
        remark += " Only a hash is sent, by which known addresses can still be found."
    elif mail:
        remark += " As a hash they would do, but empty texts would all get the same hash:"
    else:
        remark += " Leave it out; if you must tell values apart, send a hash:"
    name = f"{_property(facts.name)}_{'hash' if facts.name.endswith('sha256') else 'sha256'}"
    hashed = PropertyLine(name, ColumnSpec(column=facts.name, transform=HASH), active=safe)
    lines = (
        (PropertyLine(_property(facts.name), ColumnSpec(column=facts.name), active=False), hashed)
        if mail
        else (hashed,)
    )
    return ColumnProposal(facts.name, (remark,), lines, about)


def _property(column: str) -> str:
    """The property for a column: Amplitude keeps names that begin with `$` for itself, and YAML `<<`."""
    name = column.lstrip("$")
    return (name if name.strip() and name != "<<" else f"column {column}".strip())[:900]


def propose_type(facts: ColumnFacts) -> ProposedType:
    """The type to propose for a column whose values can be sent."""
    plain = ColumnSpec(column=facts.name, too_long="truncate" if facts.too_long else "reject")
    if not facts.text:
        return ProposedType(plain, " or ".join(facts.types))
    found = _fitting_type(facts, plain)
    if not found and facts.untyped:
        signs = [sign for sign in (";", "|") if facts.shapes[sign].likely]
        if signs:
            spec = replace(plain, type="list", separator=signs[0])
            return ProposedType(spec, f"lists separated by {signs[0]}")
    return found or _nearly_fitting_type(facts, plain) or ProposedType(plain, "text")


def _fitting_type(facts: ColumnFacts, plain: ColumnSpec) -> ProposedType | None:
    """What every value fits."""
    name, tried = clipped(facts.name), facts.types_tried
    formats = [format_ for format_, trial in facts.formats.items() if trial.perfect]
    if formats and not tried["datetime"].perfect:
        dated = replace(date_spec(formats[0]), column=plain.column)
        if one_meaning(formats):
            return ProposedType(dated, f"dates as {formats[0]}")
        choices = " or ".join(f'{{date_format: "{format_}"}}' for format_ in formats)
        remark = f"{name} stays text: all values are dates by {choices}. Put the right one in:"
        return ProposedType(plain, "text", remark, dated)
    if facts.shapes["digits"].perfect and facts.untyped and not tried["integer"].perfect:
        reason = (
            "some values have leading zeros, a plus sign or more than 15 digits, which a number would lose"
        )
        return ProposedType(plain, "text", f"{name} stays text: {reason}.")
    fitting = [type_ for type_ in (_TYPES if facts.untyped else _TYPES_OF_STRINGS) if tried[type_].perfect]
    if is_code(facts.name) and any("integer" in type_ or "number" in type_ for type_ in fitting):
        return ProposedType(plain, "text", f"{name} stays text: nobody counts with such numbers.")
    if tuple(fitting[:2]) == _COMMAS:
        remark = (
            f"{name} stays text: its commas may stand for points or between thousands. "
            'Add `transform: [{replace: {",": "."}}]` or `[{replace: {",": ""}}]`, and `type: number`.'
        )
        return ProposedType(plain, "text", remark)
    if not fitting or (fitting[0] == "boolean" and not _means_boolean(facts)):
        return None
    return ProposedType(_spec_of(tried[fitting[0]], plain), fitting[0])


def _nearly_fitting_type(facts: ColumnFacts, plain: ColumnSpec) -> ProposedType | None:
    """What all but less than 1 % of the values fit: for a remark only."""
    if is_code(facts.name):
        return None
    trials = {
        type_: facts.types_tried[type_] for type_ in (_TYPES if facts.untyped else _TYPES_OF_STRINGS)
    } | facts.formats
    likely = {name: trial for name, trial in trials.items() if name != "boolean" and trial.likely}
    if not likely:
        return None
    least = min(trial.misfits for trial in likely.values())
    names = [name for name, trial in likely.items() if trial.misfits == least]
    trial = likely[names[0]]
    formats = [name for name in names if name in facts.formats]
    ambiguous = bool(formats) and not one_meaning(formats)
    type_ = " or ".join(formats) if ambiguous else names[0]
    wanted = f"a date as {type_}" if "%" in type_ else f"fit for `{type_}`"
    source, row = trial.first or ("", 0)
    files = f" of {clipped(source)}" if len(facts.files) > 1 else ""
    remark = (
        f"{clipped(facts.name)} stays text: {trial.misfits:,} of {counted(trial.total, 'value')} "
        f"{'is' if trial.misfits == 1 else 'are'} not {wanted} (the first in row {row:,}{files})."
    )
    if ambiguous:
        return ProposedType(plain, "text", remark)
    remark += " With the line below such rows would be rejects:"
    return ProposedType(plain, "text", remark, _spec_of(trial, plain))


def _spec_of(trial: Trial, plain: ColumnSpec) -> ColumnSpec:
    """The trial's spec for the column of `plain`."""
    spec = trial.text_type.spec or plain
    return replace(spec, column=plain.column, too_long=plain.too_long if spec.type == "json" else "reject")


def _means_boolean(facts: ColumnFacts) -> bool:
    """Whether the words mean yes and no: a lone `f` may be anything."""
    words = {word.lower() for word in facts.words or ()}
    return bool(words & {"true", "false"}) or not (words.isdisjoint(_YES) or words.isdisjoint(_NO))
