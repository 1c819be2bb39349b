"""The type that all values of a column fit. Where a few don't, or two types fit, it stays what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from etl.init.date_formats import date_spec, one_meaning
from etl.init.names import is_code
from etl.init.wording import shown
from etl.job import ColumnSpec
from etl.wording import counted

if TYPE_CHECKING:
    from etl.init.facts import ColumnFacts
    from etl.init.readings import Trial

_YES: Final = frozenset({"true", "t", "yes", "y"})
_NO: Final = frozenset({"false", "f", "no", "n"})
_COMMAS: Final = ("number with commas for points", "number with commas between thousands")
_TYPES: Final = ("integer", "number", *_COMMAS, "boolean", "date", "datetime", "json")
# What is worth reading out of text that a file calls text.
_TYPES_OF_STRINGS: Final = ("datetime", "json")
_SEPARATORS: Final = (";", "|")


@dataclass(frozen=True, slots=True)
class Typed:
    """How a column is read: a spec, words for its kind, why if that isn't plain, a spec that nearly fits."""

    spec: ColumnSpec
    kind: str
    remark: str | None = None
    nearly: ColumnSpec | None = None


def typed(facts: ColumnFacts) -> Typed:
    """The type to propose for a column whose values can be sent."""
    plain = ColumnSpec(column=facts.name, too_long="truncate" if facts.too_long else "reject")
    if not facts.text:
        return Typed(plain, " or ".join(facts.types))
    found = _perfect(facts, plain) or _listed(facts, plain) or _nearly(facts, plain)
    return found or Typed(plain, "text")


def _perfect(facts: ColumnFacts, plain: ColumnSpec) -> Typed | None:
    """What every value fits."""
    formats = [format_ for format_, trial in facts.formats.items() if trial.perfect]
    if formats and not facts.types_tried["datetime"].perfect:
        return _dated(facts, plain, formats)
    if facts.shapes["digits"].perfect and facts.untyped and (reason := _no_number(facts)):
        return Typed(plain, "text", f"{shown(facts.name)} stays text: {reason}.")
    fitting = [name for name in _tried(facts) if facts.types_tried[name].perfect]
    if is_code(facts.name) and any("integer" in name or "number" in name for name in fitting):
        return Typed(plain, "text", f"{shown(facts.name)} stays text: nobody counts with such numbers.")
    if tuple(fitting[:2]) == _COMMAS:
        return Typed(plain, "text", _two_commas(facts))
    if not fitting or (fitting[0] == "boolean" and not _is_boolean(facts)):
        return None
    return Typed(_as(facts, fitting[0], plain), fitting[0])


def _tried(facts: ColumnFacts) -> tuple[str, ...]:
    return _TYPES if facts.untyped else _TYPES_OF_STRINGS


def _as(facts: ColumnFacts, name: str, plain: ColumnSpec) -> ColumnSpec:
    return _on(facts.types_tried[name], plain)


def _on(trial: Trial, plain: ColumnSpec) -> ColumnSpec:
    """The trial's spec for the column of `plain`."""
    spec = trial.reading.spec or plain
    return replace(spec, column=plain.column, too_long=plain.too_long if spec.type == "json" else "reject")


def _no_number(facts: ColumnFacts) -> str | None:
    """Why a column of digits is none to count with."""
    if facts.types_tried["integer"].perfect:
        return None
    return "some values have leading zeros, a plus sign or more than 15 digits, which a number would lose"


def _is_boolean(facts: ColumnFacts) -> bool:
    """Whether the words mean yes and no: a lone `f` may be anything."""
    words = {word.lower() for word in facts.words or ()}
    return bool(words & {"true", "false"}) or not (words.isdisjoint(_YES) or words.isdisjoint(_NO))


def _dated(facts: ColumnFacts, plain: ColumnSpec, formats: list[str]) -> Typed:
    if one_meaning(formats):
        return Typed(replace(date_spec(formats[0]), column=plain.column), f"dates as {formats[0]}")
    readings = " or ".join(f'{{date_format: "{format_}"}}' for format_ in formats)
    remark = f"{shown(facts.name)} stays text: all values are dates by {readings}. Put the right one in:"
    return Typed(plain, "text", remark, replace(date_spec(formats[0]), column=plain.column))


def _two_commas(facts: ColumnFacts) -> str:
    return (
        f"{shown(facts.name)} stays text: its commas may stand for points or between thousands. "
        'Add `transform: [{replace: {",": "."}}]` or `[{replace: {",": ""}}]`, and `type: number`.'
    )


def _listed(facts: ColumnFacts, plain: ColumnSpec) -> Typed | None:
    if not facts.untyped:
        return None
    for sign in _SEPARATORS:
        if facts.shapes[sign].likely:
            return Typed(replace(plain, type="list", separator=sign), f"lists separated by {sign}")
    return None


def _nearly(facts: ColumnFacts, plain: ColumnSpec) -> Typed | None:
    """What all but less than 1 % of the values fit: told, not proposed."""
    if is_code(facts.name):
        return None
    trials: Mapping[str, Trial] = {name: facts.types_tried[name] for name in _tried(facts)} | facts.formats
    likely = {name: trial for name, trial in trials.items() if name != "boolean" and trial.likely}
    if not likely:
        return None
    least = min(trial.misfits for trial in likely.values())
    names = [name for name, trial in likely.items() if trial.misfits == least]
    trial = likely[names[0]]
    formats = [name for name in names if name in facts.formats]
    if formats and not one_meaning(formats):
        return Typed(plain, "text", f"{_misfits(facts, trial, ' or '.join(formats))}.")
    remark = f"{_misfits(facts, trial, names[0])}. With the line below such rows would be rejects:"
    return Typed(plain, "text", remark, _on(trial, plain))


def _misfits(facts: ColumnFacts, trial: Trial, name: str) -> str:
    source, row = trial.first or ("", 0)
    files = f" of {shown(source)}" if len(facts.files) > 1 else ""
    wanted = f"a date as {name}" if "%" in name else f"fit for `{name}`"
    return (
        f"{shown(facts.name)} stays text: {trial.misfits:,} of {counted(trial.total, 'value')} "
        f"{'is' if trial.misfits == 1 else 'are'} not {wanted} (the first in row {row:,}{files})"
    )
