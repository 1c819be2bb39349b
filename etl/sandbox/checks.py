"""What a request may hold: everything is checked before anything is applied, so a refusal leaves no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

from etl.amplitude import (
    ID_FIELDS,
    LIST_OPERATORS,
    MAX_DEPTH,
    MAX_GROUP_TYPES,
    MAX_GROUP_VALUES,
    MAX_ID_LENGTH,
    MAX_PROPERTIES,
    MIN_ID_LENGTH,
    OPERATORS,
    REFUSED_IDS,
    STRING_FIELDS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Identification: TypeAlias = dict[str, Json]

_OPERATORS: Final = frozenset(OPERATORS)
_KEYED_OPERATORS: Final = _OPERATORS - {"$clearAll"}
_NUMBERS: Final = frozenset({int, float, type(None)})
_STRING_FIELDS: Final = frozenset(STRING_FIELDS)


class RequestRefusedError(Exception):
    """The request is answered with `status` and nothing of it is applied.

    `words` go to the client; `reason` is the same without what may not be kept, such as a key.
    """

    def __init__(self, status: int, words: str, *, reason: str | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.reason = words if reason is None else reason


def parse_identifications(text: str) -> list[Identification]:
    """Read the objects in a request's JSON text, one or an array. Raises RequestRefusedError."""
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:  # also for NaN, infinities and lone surrogates
        raise RequestRefusedError(400, "missing_event") from error
    found = parsed if isinstance(parsed, list) else [parsed]
    if not found or not all(isinstance(one, dict) for one in found):
        raise RequestRefusedError(400, "missing_event")
    return found


def trimmed_id(identification: Mapping[str, Json], field: str) -> str | None:
    """Look up the id that a checked identification has in `field`, without the spaces around it."""
    given = identification.get(field)
    return given.strip() if isinstance(given, str) else None


def check(identification: Identification) -> None:
    """Raise RequestRefusedError where an identification breaks a rule of the API."""
    ids = [identification.get(field) for field in ID_FIELDS]
    if ids == [None, None]:
        raise RequestRefusedError(400, "missing_event")
    for given in ids:
        if given is not None:
            _check_id(given)
    for field in _STRING_FIELDS & identification.keys():
        _require(isinstance(identification[field], str | None), f"{field} must be a string")
    _check_groups(identification.get("groups"))
    _check_properties(identification.get("user_properties"))


def _check_id(given: Json) -> None:
    _require(isinstance(given, str), "an id must be a string")
    assert isinstance(given, str)  # noqa: S101 - for the type checker
    # Spaces count for the length and are trimmed afterwards.
    _require(MIN_ID_LENGTH <= len(given) <= MAX_ID_LENGTH, "invalid length of user_id or device_id")
    trimmed = given.strip()
    _require(trimmed != "" and trimmed.lower() not in REFUSED_IDS, "invalid user_id or device_id")


def _check_groups(groups: Json) -> None:
    if groups is None:
        return
    if not isinstance(groups, dict):
        raise RequestRefusedError(400, "groups must be an object")
    values = [v for value in groups.values() for v in (value if isinstance(value, list) else [value])]
    _require(not any(isinstance(v, dict | list) for v in values), "a group must be a value or a list")
    _require(len(groups) <= MAX_GROUP_TYPES, f"more than {MAX_GROUP_TYPES} group types")
    _require(len(values) <= MAX_GROUP_VALUES, f"more than {MAX_GROUP_VALUES} groups")


def _check_properties(properties: Json) -> None:
    if properties is None:
        return
    if not isinstance(properties, dict):
        raise RequestRefusedError(400, "user_properties must be an object")
    operators = _OPERATORS & properties.keys()
    if operators:
        _require(len(operators) == len(properties), "plain user_properties beside operators")
        _check_operators(properties)
        return
    _require(len(properties) <= MAX_PROPERTIES, f"more than {MAX_PROPERTIES} user_properties")
    for name, value in properties.items():
        _require(name[:1] != "$", "unknown operator in user_properties")
        if isinstance(value, dict | list):
            _check_depth(value, 1)


def _check_operators(updates: dict[str, Json]) -> None:
    seen: set[str] = set()
    count = 0
    for operator in _KEYED_OPERATORS & updates.keys():
        operands = updates[operator]
        if not isinstance(operands, dict):
            raise RequestRefusedError(400, f"{operator} must be an object")
        seen.update(operands)
        count += len(operands)
        _check_operands(operator, operands)
    _require(count == len(seen), "two operators on one user property")
    _require(count <= MAX_PROPERTIES, f"more than {MAX_PROPERTIES} user_properties")


def _check_operands(operator: str, operands: dict[str, Json]) -> None:
    if operator == "$add":
        numbers = all(type(value) in _NUMBERS for value in operands.values())
        _require(numbers, "$add takes numbers")
    for value in operands.values():
        if isinstance(value, dict | list):
            # The value of a list operator becomes an item of a list, or several.
            _check_depth(value, 2 if operator in LIST_OPERATORS and isinstance(value, dict) else 1)


def _check_depth(value: dict[str, Json] | list[Json], depth: int) -> None:
    _require(depth <= MAX_DEPTH, f"user_properties deeper than {MAX_DEPTH}")
    listed = isinstance(value, list)
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _require(not (listed and isinstance(item, list)), "a list inside a list")
            _check_depth(item, depth + 1)


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise RequestRefusedError(400, words)
