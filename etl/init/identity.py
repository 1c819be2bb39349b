"""Which column says whose row it is: by its name, and by what its values would be as ids."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from etl.errors import SourceError
from etl.init.names import id_name, is_device_id, personal
from etl.job import ColumnSpec, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from etl.init.facts import ColumnFacts
    from etl.init.survey import Survey

Reason: TypeAlias = Literal["person", "id", "mail", "counter", "unique", "gaps", "device", "last resort"]

# From the best reason to choose a column to the worst. A mail address comes before an id that only counts
# the rows, since such a number is often made by the export and another in the next one.
REASONS: Final[tuple[Reason, ...]] = (
    "person",
    "id",
    "mail",
    "counter",
    "unique",
    "gaps",
    "device",
    "last resort",
)
_MOSTLY: Final = 0.9
_NEARLY_UNIQUE: Final = 0.98
_MAX_OTHERS: Final = 5
_WHOLE: Final = ("text", "string", "large_string", "int", "uint")


@dataclass(frozen=True, slots=True)
class Identity:
    """The column that identifies a row's user, as `user_id` or `device_id`, and why it.

    `rejects` counts the rows that will be turned away for their id, by reject code. `others` are specs of
    columns that may be meant instead, each with its reason, the likeliest first.
    """

    facts: ColumnFacts
    field: Literal["user_id", "device_id"]
    reason: Reason
    spec: ColumnSpec
    rejects: Counter[str]
    others: tuple[tuple[ColumnSpec, Reason], ...]


def choose(survey: Survey, prefix: str) -> Identity:
    """The likeliest identity of a survey's rows. Raises SourceError where no column can be one."""
    ranked = sorted(_possible(survey), key=_rank)
    if not ranked:
        hint = "add a column that says whose data a row is, such as user_id"
        raise SourceError("no column of the source can identify a user", hint=hint)
    chosen = ranked[0]
    by_device = is_device_id(chosen.name)
    others = [facts for facts in ranked[1:] if is_device_id(facts.name) == by_device]
    spec, rejects = _as_id(chosen, prefix)
    return Identity(
        facts=chosen,
        field="device_id" if by_device else "user_id",
        reason=_reason(chosen),
        spec=spec,
        rejects=rejects,
        others=tuple(_others(others, prefix))[:_MAX_OTHERS],
    )


def is_mail(facts: ColumnFacts) -> bool:
    """Whether the column holds mail addresses: its values say so, or where there are none its name."""
    return facts.shapes["mail"].likely or (not facts.present and personal(facts.name) == "mail")


def _possible(survey: Survey) -> list[ColumnFacts]:
    columns = survey.columns.values()
    return [facts for facts in columns if facts.name and not facts.nested and facts.name in survey.everywhere]


def _others(facts: Iterable[ColumnFacts], prefix: str) -> Iterator[tuple[ColumnSpec, Reason]]:
    for one in facts:
        if (reason := _reason(one)) != "last resort":
            yield _as_id(one, prefix)[0], reason


def _rank(facts: ColumnFacts) -> tuple[int, float, bool]:
    """Less is better: the reason, then how many rows lack an id of their own, then a name without meaning."""
    return REASONS.index(_reason(facts)), 1 - _there(facts) * _unique(facts), id_name(facts.name) is None


def _there(facts: ColumnFacts) -> float:
    """The share of rows that have an id."""
    return facts.ids.usable / facts.rows if facts.rows else 1.0


def _unique(facts: ColumnFacts) -> float:
    """How many different ids there are for one row with an id."""
    return facts.ids.distinct.count / facts.ids.usable if facts.ids.usable else 1.0


def _reason(facts: ColumnFacts) -> Reason:
    named = id_name(facts.name)
    if _unfit(facts):
        return "last resort"
    if named == "person" and not is_device_id(facts.name):
        return "person" if _there(facts) >= _MOSTLY else "gaps"
    if _there(facts) < _MOSTLY:
        return "last resort"
    if named == "generic" and _unique(facts) >= _MOSTLY:
        return "counter" if facts.ids.counts_rows else "id"
    if is_device_id(facts.name):
        return "device"
    if named == "login" or is_mail(facts):
        return "mail"
    return "unique" if _unique_by_content(facts) else "last resort"


def _unfit(facts: ColumnFacts) -> bool:
    secret = personal(facts.name) in {"secret", "card", "national"} or facts.shapes["card"].likely
    return secret or "bool" in facts.types or (facts.rows > 1 and facts.distinct <= 1)


def _unique_by_content(facts: ColumnFacts) -> bool:
    """Whether the values look like ids whatever the name: different, without blanks, and no measurement."""
    if facts.present < 2 or _unique(facts) < _NEARLY_UNIQUE or facts.ids.spaced or personal(facts.name):
        return False
    if not facts.bytes and not all(kind.startswith(_WHOLE) for kind in facts.types):
        return False
    numeric = facts.types_tried["number"].likely or not facts.text
    dated = any(facts.types_tried[kind].likely for kind in ("date", "datetime", "json"))
    dated |= any(trial.likely for trial in facts.formats.values())
    return not dated and (not numeric or id_name(facts.name) is not None)


def _as_id(facts: ColumnFacts, prefix: str) -> tuple[ColumnSpec, Counter[str]]:
    """How the column becomes an id, and the rows that will be turned away, by reject code."""
    ids = facts.ids
    rejects = ids.lost + Counter(missing_id=facts.rows - ids.usable - ids.lost.total())
    steps = (Step("hex"),) if facts.bytes else ()
    if not ids.faults["short_id"]:
        return ColumnSpec(column=facts.name, transform=steps), rejects + ids.faults
    rejects += Counter(long_id=ids.too_long_with_prefix, mangled_id=ids.faults["mangled_id"])
    return ColumnSpec(column=facts.name, transform=(*steps, Step("prefix", prefix))), rejects
