"""What the keys of one column spec mean together, and in the place where it stands.

The rules take any data: what has the wrong shape is passed over, as the door tells that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from etl.amplitude import ID_FIELDS, LIST_OPERATORS, MAX_GROUP_VALUES
from etl.job.bare import Bare, Tree, is_blank
from etl.job.constants import Kind, value_faults
from etl.job.date_rules import moment_findings
from etl.job.findings import Finding, Path, shown
from etl.job.number_rules import number_findings
from etl.job.spec import ValueType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Where a spec stands: a field, the time or a group of the identification, or an operator.
Place: TypeAlias = Literal["field", "time", "group"] | str

_IDLE_BESIDE_VALUE: Final = (
    "transform",
    "default",
    "null",
    "empty",
    "separator",
    "too_long",
    "ids",
    "nulls",
    "invalid",
    "timezone",
    "unit",
    "decimal",
    "thousands",
    "strip",
    "values",
    "path",
)
_TYPES_OF: Final = {
    "field": ("string", "number", "integer", "boolean", "date", "datetime"),
    "group": ("string", "number", "integer", "boolean", "date", "datetime", "list"),
    "time": ("datetime", "date", "number", "integer"),
    "$add": ("number", "integer"),
}
_TYPES_OF_WORDS: Final = (None, "string", "number", "integer", "boolean")
_IDS: Final = tuple(("identification", name) for name in ID_FIELDS)
_SAYS: Final = {
    "field": "Amplitude takes only text here",
    "time": "`time` is a moment",
    "group": "a group is text or a list of text",
    "$add": "`$add` adds numbers",
}


def value_type(place: Place, given: object) -> ValueType | None:
    """The type of a spec: the one given, or the one its place implies."""
    for known in get_args(ValueType):
        if given == known:
            return known  # type: ignore[no-any-return]
    return "number" if place == "$add" else None


def kind(place: Place, given: object) -> Kind:
    """What a constant or default in this place must be."""
    if place == "field":
        return "string"
    if place == "time":
        return "datetime"
    return "texts" if place == "group" else value_type(place, given)


def column_findings(spec: Tree, place: Place, path: Path) -> Iterator[Finding]:
    """Everything that is wrong with the sense of a column spec at a path."""
    if not isinstance(spec, dict):
        return
    yield from _origin(spec, path)
    yield from _idle(spec, path)
    yield from _type(spec, place, path)
    if "ids" in spec and path not in _IDS:
        yield Finding((*path, "ids"), "`ids` can't be used here; only `user_id` and `device_id` are ids")
    if spec.get("invalid") == "skip" and path in _IDS:
        message = "`invalid: skip` can't be used here; a row without its id is nobody's, so it is a reject"
        yield Finding((*path, "invalid"), message)
    yield from null_findings(spec, path)
    if "column" in spec:
        yield from moment_findings(spec, place, path)
        yield from number_findings(spec, place, path)
        yield from word_findings(spec, place, path)
    yield from _values(spec, place, path)
    if spec.get("null") == "unset" and place != "$set":
        message = "`null: unset` can't be used here; only a property under `$set` can be unset"
        yield Finding((*path, "null"), message)


def null_findings(section: Mapping[str, Tree], path: Path) -> Iterator[Finding]:
    """Words for null that are given twice; spaces around them mean nothing."""
    words = section.get("nulls")
    seen = set()
    for number, word in enumerate(words if isinstance(words, list) else ()):
        if isinstance(word, str) and word.strip() in seen:
            message = f"`{shown(word.strip())}` stands in `nulls` twice; spaces around it don't count"
            yield Finding((*path, "nulls", number), message)
        elif isinstance(word, str):
            seen.add(word.strip())
    if words in ([], Bare("")):
        yield Finding((*path, "nulls"), "`nulls` is empty; list the texts that mean null, or take it out")


def word_findings(spec: dict[str, Tree], place: Place, path: Path) -> Iterator[Finding]:
    """Everything that is wrong with the sense of a column's `values`."""
    words = spec.get("values")
    if not isinstance(words, dict):
        return
    if path in _IDS or place == "time":
        yield Finding((*path, "values"), "`values` can't be used here; an id and a time are no words")
    elif spec.get("type") not in _TYPES_OF_WORDS:
        message = f"`values` can't be used with `type: {spec['type']}`; leave the type out"
        yield Finding((*path, "values"), message)
        return
    wanted, seen = kind(place, spec.get("type")), set()
    for word, value in words.items():
        if word.strip() in seen:
            message = f"`{shown(word.strip())}` stands in `values` twice; spaces around it don't count"
            yield Finding((*path, "values", word), message)
        seen.add(word.strip())
        if isinstance(value, (list, dict)):
            message = f"`{shown(word)}` must stand for text, a number, true, false or null"
            yield Finding((*path, "values", word), message)
        elif not is_blank(value):
            for fault in value_faults(value, wanted):
                yield Finding((*path, "values", word), f"`{shown(word)}` {fault}")


def _origin(spec: dict[str, Tree], path: Path) -> Iterator[Finding]:
    if "column" in spec and "value" in spec:
        message = "`column` and `value` exclude each other: a value comes from the source or is a constant"
        yield Finding((*path, "value"), message)
    if "column" not in spec and "value" not in spec:
        yield Finding(path, f"`{path[-1]}` needs a `column`, or a `value` for a constant")


def _idle(spec: dict[str, Tree], path: Path) -> Iterator[Finding]:
    """Keys that would do nothing are mistakes."""
    if "value" in spec and "column" not in spec:
        for key in [key for key in _IDLE_BESIDE_VALUE if key in spec]:
            yield Finding((*path, key), f"`{key}` does nothing for a constant; take it out")
    elif "separator" in spec and spec.get("type") != "list":
        yield Finding((*path, "separator"), "`separator` does nothing without `type: list`")
    if spec.get("empty") == "keep" and spec.get("type", "string") != "string":
        message = "`empty: keep` is for text: empty text is no value of another type"
        yield Finding((*path, "empty"), message)


def _type(spec: dict[str, Tree], place: Place, path: Path) -> Iterator[Finding]:
    allowed = _TYPES_OF.get(place)
    given = spec.get("type")
    if allowed is None or given not in get_args(ValueType) or given in allowed:
        return
    message = f"`type` can't be `{given}`: {_SAYS[place]}; use {' or '.join(allowed)}"
    yield Finding((*path, "type"), message)


def _values(spec: dict[str, Tree], place: Place, path: Path) -> Iterator[Finding]:
    if "value" in spec and is_blank(spec["value"]):
        message = (
            "`value` is null, which Amplitude ignores; leave the property out, or list it under `$unset`"
        )
        yield Finding((*path, "value"), message)
        return
    for key in ("value", "default"):
        value = spec.get(key)
        if is_blank(value):
            continue
        for fault in value_faults(value, kind(place, spec.get("type"))):
            yield Finding((*path, key), f"`{key}` {fault}")
        if place in LIST_OPERATORS and isinstance(value, dict):
            yield Finding((*path, key), f"`{key}` must be a list or one value for a list")
        if place == "group" and isinstance(value, list) and len(value) > MAX_GROUP_VALUES:
            yield Finding((*path, key), f"`{key}` has more than {MAX_GROUP_VALUES} groups of one type")
