"""Which column identifies a row's user, by its name and by its values, and what a user should know of it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ..amplitude.limits import MAX_ID_LENGTH, MIN_ID_LENGTH
from ..errors import SourceError
from ..job import ColumnSpec, Step
from ..job.problems import clipped
from ..mapper.ids import REMEDY
from ..text import counted
from .names import id_name, is_code, is_device_id, is_measure, joined_name, personal

if TYPE_CHECKING:
    from .facts import ColumnFacts, SourceFacts

# From the best reason to choose a column to the worst. A mail address comes before an id that only counts
# the rows, since such a number is often made by the export and another in the next one.
Reason: TypeAlias = Literal[
    "person", "id", "unnamed", "mail", "counter", "unique", "gaps", "few", "device", "last resort"
]
_MOSTLY: Final = 0.9
_NEARLY_UNIQUE: Final = 0.98
# Ids of which so few are different, in so many rows, are those of companies, shops or sellers.
_FEW: Final = 0.01
_SOME: Final = 500
_MAX_OTHERS: Final = 5
_UNNAMED: Final = re.compile(r"column_\d+")
_PLAIN: Final = (None, "integer", "number", "string")
_WHOLE: Final = ("text", "string", "large_string", "int", "uint")
_WHY: Final[dict[Reason, str]] = {
    "person": "its name says that it is an id of users",
    "id": "its name says that it is an id, and nearly every row has its own",
    "unnamed": "nearly every row has a value of its own. The file names no columns, so check this guess",
    "mail": "nothing here looks more like a lasting id of users",
    "counter": "its name says that it is an id, though it does no more than count the rows",
    "unique": "nearly every row has a value of its own",
    "gaps": "its name says that it is an id of users, though many rows have none",
    "few": "its name says that it is an id of users, though few of its values are different",
    "device": "it is the only id here, though of a device: with an id of users these rows would do more",
    "last resort": "some column must be. None looks like an id, so check this guess before you send anything",
}
_ROWS_COUNTED: Final = "Make sure that the next export won't give the same numbers to other people."
_MANGLED: Final = (
    "Ids can't be changed later, so mangled ones aren't sent: export the ids as text. If they are meant so, "
    "write {column: ..., ids: {mangled: keep}}."
)
_MAIL: Final = (
    "Personal data: who uses Amplitude sees the ids, here mail addresses, and ids can't be changed later."
)
_BYTES: Final = (
    "Its values are bytes: hex writes them as hexadecimal digits. Say uuid in place of hex if your other "
    "data has them as UUIDs, such as 0f8fad5b-d9cb-469f-a165-70867728950e."
)


@dataclass(frozen=True, slots=True)
class IdChoice:
    """The column that identifies a row's user, as `user_id` or `device_id`, and the reason for it.

    `rejects` counts the rows that will be rejected for their id, by reject code. `others` are specs of
    columns that may be meant instead, each with its reason, the likeliest first.
    """

    facts: ColumnFacts
    field: Literal["user_id", "device_id"]
    reason: Reason
    spec: ColumnSpec
    rejects: Counter[str]
    others: tuple[tuple[ColumnSpec, Reason], ...]


def choose_id(source: SourceFacts, prefix: str) -> IdChoice:
    """The likeliest id of a source's rows. Raises SourceError where no column can be one."""
    possible = [
        facts
        for facts in source.columns.values()
        if facts.name and not facts.nested and facts.name in source.everywhere
    ]
    if not possible:
        hint = "add a column that says whose data a row is, such as user_id"
        raise SourceError("no column of the source can identify a user", hint=hint)

    reasons = {facts.name: _reason(facts) for facts in possible}
    best = min([*_WHY].index(reason) for reason in reasons.values())
    if [*_WHY][best] != "last resort":
        possible = [facts for facts in possible if reasons[facts.name] != "last resort"]

    def rank(facts: ColumnFacts) -> tuple[int, bool, float, bool]:
        # Less is better: the reason, a measure, how many rows lack their own id, a name without meaning.
        own = facts.distinct / facts.rows if facts.rows else 1.0
        doubtful = is_measure(facts.name) or is_code(facts.name) or facts.proposed.spec.type not in _PLAIN
        return [*_WHY].index(reasons[facts.name]), doubtful, 1 - own, id_name(facts.name) is None

    chosen, *others = sorted(possible, key=rank)
    by_device = is_device_id(chosen.name)
    spec, rejects = _as_id(chosen, prefix)
    return IdChoice(
        facts=chosen,
        field="device_id" if by_device else "user_id",
        reason=reasons[chosen.name],
        spec=spec,
        rejects=rejects,
        others=tuple(
            (_as_id(facts, prefix)[0], reason)
            for facts in others
            if is_device_id(facts.name) == by_device and (reason := reasons[facts.name]) != "last resort"
        )[:_MAX_OTHERS],
    )


def is_mail(facts: ColumnFacts) -> bool:
    """Whether the column holds mail addresses: by its values, or where there are none by its name."""
    return facts.likely("mail") or (not facts.present and personal(facts.name) == "mail")


def _present_share(facts: ColumnFacts) -> float:
    return facts.ids.usable / facts.rows if facts.rows else 1.0


def _distinct_share(facts: ColumnFacts) -> float:
    return facts.ids.distinct.count / facts.ids.usable if facts.ids.usable else 1.0


def _reason(facts: ColumnFacts) -> Reason:
    named, device = id_name(facts.name), is_device_id(facts.name)
    about = personal(facts.name)
    secret = about in {"secret", "card", "national"} or facts.likely("card")
    if secret or "bool" in facts.types or (facts.rows > 1 and facts.distinct <= 1):
        return "last resort"
    if _UNNAMED.fullmatch(facts.name) and _is_unique_by_content(facts) and not facts.likely("mail"):
        return "unnamed" if 2 * facts.ids.words < facts.ids.usable else "unique"
    if not (named or device or facts.likely("mail")):
        return "unique" if _is_unique_by_content(facts) else "last resort"
    if named == "person" and not device:
        if _distinct_share(facts) < _FEW and facts.ids.usable > _SOME:
            return "few"
        return "person" if _present_share(facts) >= _MOSTLY else "gaps"
    if _present_share(facts) < _MOSTLY:
        return "last resort"
    if named == "generic" and _distinct_share(facts) >= _MOSTLY:
        return "counter" if facts.ids.counts_rows else "id"
    if device:
        return "device"
    if (named == "login" and _distinct_share(facts) >= _MOSTLY) or is_mail(facts):
        return "mail"
    return "unique" if _is_unique_by_content(facts) else "last resort"


def _is_unique_by_content(facts: ColumnFacts) -> bool:
    """Whether the values look like ids whatever the name: different, without blanks, and no measurement."""
    name, values = facts.name, facts.rows - facts.missing
    # First what costs little: a file may have thousands of columns.
    if values < max(2, _MOSTLY * facts.rows) or facts.distinct < _NEARLY_UNIQUE * values:
        return False
    if personal(name) or is_measure(name) or (is_code(name) and joined_name(name) != "code"):
        return False
    if not facts.bytes and not all(type_.startswith(_WHOLE) for type_ in facts.types):
        return False
    if facts.likely("phone") or facts.proposed.spec.type not in {None, "integer", "number"}:
        return False
    if facts.proposed.nearly or facts.proposed.spec.strip:  # a date or a number, though it stays text
        return False
    numeric = facts.likely("digits") or facts.likely("number") or not (facts.text or facts.bytes)
    if numeric and id_name(name) is None:
        return False
    return (
        not facts.ids.spaced and _distinct_share(facts) >= _NEARLY_UNIQUE and _present_share(facts) >= _MOSTLY
    )


def _as_id(facts: ColumnFacts, prefix: str) -> tuple[ColumnSpec, Counter[str]]:
    """How the column becomes an id, and the rows that will be rejects, by reject code."""
    ids = facts.ids
    rejects = ids.lost + Counter(missing_id=facts.rows - ids.usable - ids.lost.total())
    steps = (Step("hex"),) if facts.bytes else ()
    nulls = facts.own_nulls
    # A few short ids are dirt.
    if 2 * ids.faults["short_id"] <= ids.usable:
        return ColumnSpec(
            column=facts.name, path=facts.path, transform=steps, nulls=nulls
        ), rejects + ids.faults
    rejects += Counter(long_id=ids.too_long_with_prefix, mangled_id=ids.faults["mangled_id"])
    return ColumnSpec(column=facts.name, transform=(*steps, Step("prefix", prefix)), nulls=nulls), rejects


def id_remarks(choice: IdChoice) -> list[str]:
    """Sentences for the comment above the id."""
    facts, ids = choice.facts, choice.facts.ids
    remarks = [f"{clipped(facts.name)} was taken: {_WHY[choice.reason]}."]
    if choice.reason == "counter":
        remarks.append(_ROWS_COUNTED)
    counters = [clipped(spec.column or "") for spec, reason in choice.others if reason == "counter"]
    if counters:
        remarks.append(f"{counters[0]} only counts the rows of this file: if it is a lasting id, take that.")
    if is_mail(facts):
        remarks.append(_MAIL)
    if facts.bytes:
        remarks.append(_BYTES)
    if any(step.verb == "prefix" for step in choice.spec.transform):
        short = counted(ids.faults["short_id"], "row has an id", "rows have an id")
        remarks += [
            f"{short} of fewer than {MIN_ID_LENGTH} characters, which Amplitude refuses: hence the prefix.",
            "Everything else that sends data of these users to Amplitude must use the same prefix.",
        ]
        if ids.refused:
            words = counted(ids.refused.total(), "row has an id", "rows have ids")
            remarks.append(
                f"{words} that may stand for no user ({_refused_words(choice)}): with the prefix, all rows "
                "of a word become one user. Take them out of the source first."
            )
    if ids.repeat:
        number = f"{'' if ids.distinct.exact else 'about '}{ids.distinct.count:,}"
        remarks.append(
            f"{counted(ids.usable, 'row has', 'rows have')} {number} different ids: "
            "where a user has several rows, the last value of each property stays."
        )
    remarks += id_rejects(choice)
    return [*remarks, _MANGLED] if ids.mangled else remarks


def id_rejects(choice: IdChoice) -> list[str]:
    """A sentence for each reason for which rows will be rejects."""
    ids = choice.facts.ids
    mangled = "; ".join(
        f"{count:,}: {says.removesuffix(REMEDY).replace('{}', ids.examples[says])}"
        for says, count in ids.mangled.most_common()
    )
    lacks = {
        "missing_id": "no id",
        "mangled_id": f"an id that was mangled on its way ({mangled})",
        "refused_id": f"an id that stands for no user ({_refused_words(choice)})",
        "short_id": f"an id of fewer than {MIN_ID_LENGTH} characters",
        "long_id": f"an id of more than {MAX_ID_LENGTH:,} characters",
    }
    sentences = []
    for code, count in sorted(choice.rejects.items()):
        has, end = ("has", "it will be a reject") if count == 1 else ("have", "they will be rejects")
        what = lacks.get(code, f"a value that can't be an id ({code})")
        sentences.append(f"{count:,} of {counted(choice.facts.rows, 'row')} {has} {what}: {end}.")
    return sentences


def _refused_words(choice: IdChoice) -> str:
    return ", ".join(sorted(clipped(word) for word in choice.facts.ids.refused)[:5])
