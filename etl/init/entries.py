"""What becomes of each column: a property, a commented line with the reason, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from etl.amplitude import MAX_STRING_LENGTH
from etl.init.families import part_of_family
from etl.init.names import Personal, personal
from etl.init.typed import typed
from etl.init.wording import shown
from etl.job import ColumnSpec, Step
from etl.wording import counted

if TYPE_CHECKING:
    from etl.init.facts import ColumnFacts
    from etl.init.survey import Survey

HASH: Final = (Step("trim"), Step("lower"), Step("sha256"))
_MISSING: Final = "Put `missing: null` at the top level to have it null in their rows, and take the # off:"
_LONG: Final = 50  # characters on average, from which on text is prose
_MANY: Final = 50  # different values, from which on nobody groups by them

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
class Line:
    """One property: its name in the job file, and its spec; `active` lines are not commented out."""

    name: str
    spec: ColumnSpec
    active: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the job file says of one column: sentences, then lines. `personal`: what it knows of people."""

    column: str
    remarks: tuple[str, ...]
    lines: tuple[Line, ...]
    personal: Personal | None = None

    @property
    def plain(self) -> bool:
        """Whether the column's values are sent as they are."""
        return any(line.active and not _hashed(line.spec) for line in self.lines)


def entry(facts: ColumnFacts, survey: Survey, named: dict[str, str]) -> Entry:
    """The entry for a column that is neither an id nor one of Amplitude's own fields.

    `named` has the columns with names of such fields.
    """
    if facts.name and facts.name not in survey.sendable:
        remark = f"{shown(facts.name)} is left out: some files lack it. {_MISSING}"
        return Entry(facts.name, (remark,), (_line(facts, typed(facts).spec, active=False),))
    if reason := _unusable(facts):
        lines = (_line(facts, ColumnSpec(column=facts.name), active=False),) if facts.name else ()
        return Entry(facts.name, (reason,), lines)
    if facts.bytes:
        remark = f"{shown(facts.name)} holds bytes and is left out; as hexadecimal digits they can be sent:"
        spec = ColumnSpec(column=facts.name, transform=(Step("hex"),))
        return Entry(facts.name, (remark,), (_line(facts, spec, active=False),))
    about = about_people(facts)
    if about in _NEVER_PLAIN or about == "mail":
        return _hidden(facts, about)
    found = typed(facts)
    remarks = [f"Personal data: {shown(facts.name)} has {_WHAT[about]}."] if about else []
    remarks += [part] if (part := part_of_family(facts.name, named)) else []
    remarks += _content_remarks(facts)
    remarks += [found.remark] if found.remark else []
    nearly = [_line(facts, found.nearly, active=False)] if found.nearly else []
    sent = _line(facts, found.spec, note=_note(facts, found.kind))
    return Entry(facts.name, tuple(remarks), (*nearly, sent), about)


def about_people(facts: ColumnFacts) -> Personal | None:
    """What a column knows of people; what the values are counts more than what the name says."""
    by_content: tuple[Personal, ...] = ("card", "mail", "national", "phone", "ip")
    likely = [kind for kind in by_content if facts.shapes[kind].likely]
    named = personal(facts.name)
    if "card" in likely and facts.shapes["card"].fits < 3 and named != "card":
        likely.remove("card")  # one number in ten has the right check sum by chance
    if named in _NEVER_PLAIN and "mail" not in likely:
        return named
    return likely[0] if likely else _believed(named, facts)


def _believed(named: Personal | None, facts: ColumnFacts) -> Personal | None:
    """What the name says, unless the values can't be it: `email` may hold yes and no."""
    if named == "mail" and (not facts.text or facts.shapes["mail"].fits == 0):
        return None
    return None if "bool" in facts.types else named


def _unusable(facts: ColumnFacts) -> str | None:
    if not facts.name:
        return "A column without a name is left out: a job file can't name it."
    name = shown(facts.name)
    if facts.rows and not facts.present:
        return f"{name} is left out: it has no value in any row."
    if facts.faults and facts.fault_place:
        codes = ", ".join(f"{count:,} {code}" for code, count in sorted(facts.faults.items()))
        place = f"the first is row {facts.fault_place[1]:,}"
        return f"{name} is left out, as its rows would be rejects ({codes}; {place})."
    return None


def _hidden(facts: ColumnFacts, about: Personal) -> Entry:
    plain, hashed = ColumnSpec(column=facts.name), ColumnSpec(column=facts.name, transform=HASH)
    suffix = "hash" if facts.name.endswith("sha256") else "sha256"
    remark = f"Personal data: {shown(facts.name)} has {_WHAT[about]}."
    safe = about == "mail" and not facts.empty_texts
    if safe:
        remarks = (f"{remark} Only a hash is sent, by which known addresses can still be found.",)
    elif about == "mail":
        remarks = (f"{remark} As a hash they would do, but empty texts would all get the same hash:",)
    else:
        remarks = (f"{remark} Leave it out; if you must tell values apart, send a hash:",)
    hash_line = Line(f"{_property(facts.name)}_{suffix}", hashed, active=safe)
    lines = (_line(facts, plain, active=False), hash_line) if about == "mail" else (hash_line,)
    return Entry(facts.name, remarks, lines, about)


def _content_remarks(facts: ColumnFacts) -> list[str]:
    remarks = []
    name = shown(facts.name)
    if facts.too_long:
        values = counted(facts.too_long, "value")
        remarks.append(f"{name}: {values} of more than {MAX_STRING_LENGTH:,} characters will be cut.")
    if facts.rows > 1 and facts.distinct == 1 and facts.present == facts.rows:
        remarks.append(f"{name} has the same value in every row.")
    if facts.present and facts.characters / facts.present > _LONG and facts.distinct > _MANY:
        remarks.append(f"{name} is free text: charts can't group by it.")
    return remarks


def _line(facts: ColumnFacts, spec: ColumnSpec, *, active: bool = True, note: str = "") -> Line:
    return Line(_property(facts.name), spec, active, note)


def _property(column: str) -> str:
    """The property for a column: Amplitude keeps names that begin with `$` for itself, and YAML `<<`."""
    name = column.lstrip("$")
    return (name if name.strip() and name != "<<" else f"column {column}".strip())[:900]


def _note(facts: ColumnFacts, kind: str) -> str:
    parts = [kind]
    if not facts.nested:
        about = "" if facts.ids.distinct.exact else "about "
        parts.append(f"{about}{facts.distinct:,} different")
    if facts.missing:
        parts.append(f"{facts.missing:,} of {counted(facts.rows, 'row')} empty")
    return ", ".join(parts)


def _hashed(spec: ColumnSpec) -> bool:
    return any(step.verb == "sha256" for step in spec.transform)
