"""What each operator does to a user's properties, in the order of the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from etl.sandbox.api_rules import LONGEST_STRING, ORDERED_OPERATORS
from etl.sandbox.checks import Json

Properties: TypeAlias = dict[str, Json]
_NUMBERS: Final = frozenset({int, float})
_ListChange: TypeAlias = Callable[[list[Json], list[Json]], list[Json]]


def update(properties: Properties, updates: Mapping[str, Json]) -> None:
    """Apply checked user_properties: operators in the server's order, or plain keys as $set."""
    if updates.keys().isdisjoint(ORDERED_OPERATORS):
        _set(properties, updates)
        return
    for operator in ORDERED_OPERATORS:
        if operator in updates:
            operands = updates[operator]
            _APPLY[operator](properties, operands if isinstance(operands, dict) else {})


def cut(value: Json) -> Json:
    """Cut a value's strings to what is stored, at any depth; anything else stays unchanged.

    A list ends before the item that would take its strings over the same length.
    """
    if isinstance(value, str):
        return value if len(value) <= LONGEST_STRING else value[:LONGEST_STRING]
    if isinstance(value, dict):
        return {name: cut(item) for name, item in value.items()}
    return _cut_list(value) if isinstance(value, list) else value


def _cut_list(items: list[Json]) -> list[Json]:
    kept: list[Json] = []
    room = LONGEST_STRING
    for item in map(cut, items):
        room -= len(item) if isinstance(item, str) else 0
        if room < 0:
            break
        kept.append(item)
    return kept


def _unset(properties: Properties, operands: Mapping[str, Json]) -> None:
    for name in operands:
        properties.pop(name, None)


def _set(properties: Properties, operands: Mapping[str, Json]) -> None:
    for name, value in operands.items():
        if value is not None:
            properties[name] = cut(value)


def _set_once(properties: Properties, operands: Mapping[str, Json]) -> None:
    for name, value in operands.items():
        if value is not None and name not in properties:
            properties[name] = cut(value)


def _add(properties: Properties, operands: Mapping[str, Json]) -> None:
    for name, value in operands.items():
        present: Any = properties.get(name, 0)
        if type(value) in _NUMBERS and type(present) in _NUMBERS:
            total = present + value
            # Beyond 64 bits a JSON reader keeps the size of a whole number, not its digits.
            properties[name] = total if -(2**63) <= total < 2**64 else float(total)


def _change_lists(change: _ListChange) -> Callable[[Properties, Mapping[str, Json]], None]:
    def apply(properties: Properties, operands: Mapping[str, Json]) -> None:
        for name, value in operands.items():
            if value is not None:
                properties[name] = change(_listed(properties.get(name)), _cut_list(_listed(value)))

    return apply


def _remove(properties: Properties, operands: Mapping[str, Json]) -> None:
    for name, value in operands.items():
        present = properties.get(name)
        if isinstance(present, list) and value is not None:
            gone = _cut_list(_listed(value))
            properties[name] = [item for item in present if not _holds(gone, item)]


def _missing(present: list[Json], given: list[Json]) -> list[Json]:
    """Pick those of the given values, each once, that are not present."""
    new: list[Json] = []
    for item in given:
        if not _holds(present, item) and not _holds(new, item):
            new.append(item)
    return new


def _listed(value: Json) -> list[Json]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _holds(items: list[Json], wanted: Json) -> bool:
    # True equals 1 in Python; in JSON it doesn't.
    return any(item == wanted and isinstance(item, bool) == isinstance(wanted, bool) for item in items)


_APPLY: Final[Mapping[str, Callable[[Properties, Mapping[str, Json]], None]]] = {
    "$clearAll": lambda properties, _: properties.clear(),
    "$unset": _unset,
    "$set": _set,
    "$setOnce": _set_once,
    "$add": _add,
    "$append": _change_lists(lambda present, given: [*present, *given]),
    "$prepend": _change_lists(lambda present, given: [*given, *present]),
    "$preInsert": _change_lists(lambda present, given: [*_missing(present, given), *present]),
    "$postInsert": _change_lists(lambda present, given: [*present, *_missing(present, given)]),
    "$remove": _remove,
}
