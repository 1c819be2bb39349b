"""The choice of the column that identifies a row's user, by names and values, and the rejects it leads to."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from ..amplitude.requests import MAX_ID_LENGTH, MIN_ID_LENGTH
from ..errors import SourceError
from ..job.column_spec import ColumnSpec, Step
from ..job.problems import clipped
from ..mapper.ids import REMEDY
from ..text import counted
from .names import id_name, is_code, is_device_id, is_measure, joined_name, personal

if TYPE_CHECKING:
    from .facts import ColumnFacts, SourceFacts

# From the best reason to choose a column to the worst. A mail address comes before an id that only counts
# the rows, since such a number is often made by the export and another in the next one.
_Reason: TypeAlias = Literal[
    "person", "id", "unnamed", "mail", "counter", "unique", "gaps", "few", "device", "last resort"
]
_REASONS: Final = get_args(_Reason)
_MOSTLY: Final = 0.9
_NEARLY_UNIQUE: Final = 0.98
# Ids of which so few are different, in so many rows, are those of companies, shops or sellers.
_FEW: Final = 0.01
_SOME: Final = 500
_MAX_OTHERS: Final = 5
_UNNAMED: Final = re.compile(r"column_\d+")
_PLAIN: Final = (None, "integer", "number", "string")
_WHOLE: Final = ("text", "string", "large_string", "int", "uint")


@dataclass(frozen=True, slots=True)
class IdChoice:
    """The column that identifies a row's user, as `user_id` or `device_id`, and the reason for it.

    `rejects` counts the rows that will be rejected for their id, by reject code. `others` are specs of
    columns that may be meant instead, each with its reason, the likeliest first.
    """

    facts: ColumnFacts
    field: Literal["user_id", "device_id"]
    reason: _Reason
    spec: ColumnSpec
    rejects: Counter[str]
    others: tuple[tuple[ColumnSpec, _Reason], ...]

    @property
    def mail(self) -> bool:
        """Whether the ids are mail addresses."""
        return _is_mail(self.facts)

    @property
    def prefixed(self) -> bool:
        """Whether the ids get a prefix, as they are too short."""
        return any(step.verb == "prefix" for step in self.spec.transform)


def choose_id(source: SourceFacts) -> IdChoice:
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

    def rank(facts: ColumnFacts) -> tuple[int, bool, float, bool]:
        # Less is better: the reason, a measure, how many rows lack their own id, a name without meaning.
        own = facts.distinct / facts.rows if facts.rows else 1.0
        doubtful = is_measure(facts.name) or is_code(facts.name) or facts.proposed.spec.type not in _PLAIN
        return _REASONS.index(reasons[facts.name]), doubtful, 1 - own, id_name(facts.name) is None

    chosen, *others = sorted(possible, key=rank)
    by_device = is_device_id(chosen.name)
    spec, rejects = _as_id(chosen, source.prefix)
    return IdChoice(
        facts=chosen,
        field="device_id" if by_device else "user_id",
        reason=reasons[chosen.name],
        spec=spec,
        rejects=rejects,
        others=tuple(
            (_as_id(facts, source.prefix)[0], reason)
            for facts in others
            if is_device_id(facts.name) == by_device and (reason := reasons[facts.name]) != "last resort"
        )[:_MAX_OTHERS],
    )


def _is_mail(facts: ColumnFacts) -> bool:
    """By its values, or where there are none by its name."""
    return facts.sample.likely("mail") or (not facts.present and personal(facts.name) == "mail")


def _present_share(facts: ColumnFacts) -> float:
    return facts.ids.usable / facts.rows if facts.rows else 1.0


def _distinct_share(facts: ColumnFacts) -> float:
    return facts.ids.distinct.count / facts.ids.usable if facts.ids.usable else 1.0


def _reason(facts: ColumnFacts) -> _Reason:
    named, device = id_name(facts.name), is_device_id(facts.name)
    secret = personal(facts.name) in {"secret", "card", "national"} or facts.sample.likely("card")
    if secret or "bool" in facts.types or (facts.rows > 1 and facts.distinct <= 1):
        return "last resort"
    if _UNNAMED.fullmatch(facts.name) and _is_unique_by_content(facts) and not facts.sample.likely("mail"):
        return "unnamed" if 2 * facts.ids.words < facts.ids.usable else "unique"
    if not (named or device or facts.sample.likely("mail")):
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
    if (named == "login" and _distinct_share(facts) >= _MOSTLY) or _is_mail(facts):
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
    if facts.sample.likely("phone") or facts.proposed.spec.type not in {None, "integer", "number"}:
        return False
    if facts.proposed.nearly or facts.proposed.spec.strip:  # a date or a number, though it stays text
        return False
    numeric = any(map(facts.sample.likely, ("digits", "number"))) or not (facts.text or facts.bytes)
    if numeric and id_name(name) is None:
        return False
    return (
        not facts.ids.spaced and _distinct_share(facts) >= _NEARLY_UNIQUE and _present_share(facts) >= _MOSTLY
    )


def _as_id(facts: ColumnFacts, prefix: str) -> tuple[ColumnSpec, Counter[str]]:
    """How the column becomes an id, and the rows that will be rejects, by reject code."""
    ids = facts.ids
    rejects = ids.lost + Counter(missing_id=facts.rows - ids.usable - ids.lost.total())
    steps, faults = (Step("hex"),) if facts.bytes else (), ids.faults
    if 2 * faults["short_id"] > ids.usable:  # a few of them are dirt
        steps = (*steps, Step("prefix", prefix))
        faults = Counter(long_id=ids.too_long_with_prefix, mangled_id=faults["mangled_id"])
    spec = ColumnSpec(column=facts.name, path=facts.path, transform=steps, nulls=facts.own_nulls)
    return spec, rejects + faults


def id_rejects(choice: IdChoice) -> list[str]:
    """A sentence for each reason for which rows will be rejects."""
    ids = choice.facts.ids
    mangled = "; ".join(
        f"{count:,}: {says.removesuffix(REMEDY).replace('{}', ids.examples[says])}"
        for says, count in ids.mangled.most_common()
    )
    refused = ", ".join(sorted(map(clipped, ids.refused))[:5])
    lacks = {
        "missing_id": "no id",
        "mangled_id": f"an id that was mangled on its way ({mangled})",
        "refused_id": f"an id that stands for no user ({refused})",
        "short_id": f"an id of fewer than {MIN_ID_LENGTH} characters",
        "long_id": f"an id of more than {MAX_ID_LENGTH:,} characters",
    }
    sentences = []
    for code, count in sorted(choice.rejects.items()):
        has, end = ("has", "it will be a reject") if count == 1 else ("have", "they will be rejects")
        what = lacks.get(code, f"a value that can't be an id ({code})")
        sentences.append(f"{count:,} of {counted(choice.facts.rows, 'row')} {has} {what}: {end}.")
    return sentences
