"""What a request may hold: everything is checked before anything is applied, so a refusal leaves no trace."""

from __future__ import annotations

from types import MappingProxyType
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
    from collections.abc import Callable, Iterator, Mapping

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Identification: TypeAlias = dict[str, Json]

_OPERATORS: Final = frozenset(OPERATORS)
_KEYED_OPERATORS: Final = _OPERATORS - {"$clearAll"}
_NUMBERS: Final = frozenset({int, float, type(None)})
_STRING_FIELDS: Final = frozenset(STRING_FIELDS)


class RequestRefusedError(Exception):
    """The request is answered with `status` and nothing of it is applied.

    `words` and, in a JSON answer, `details` go to the client; `reason` is the words without what may not be
    kept, such as a key.
    """

    def __init__(
        self,
        status: int,
        words: str,
        *,
        reason: str | None = None,
        details: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.reason = words if reason is None else reason
        self.details = details


class MissingIdError(RequestRefusedError):
    """An identification names nobody."""


class IdLengthError(RequestRefusedError):
    """An id is too short or too long."""


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


def check(identification: Identification, min_id_length: int = MIN_ID_LENGTH) -> None:
    """Raise RequestRefusedError where an identification breaks a rule of the API."""
    for _, error in broken_rules(identification, min_id_length):
        raise error


def broken_rules(
    identification: Identification, min_id_length: int = MIN_ID_LENGTH
) -> Iterator[tuple[str, RequestRefusedError]]:
    """Find the fields of an identification that break a rule, and how; one without an id has only that."""
    given = [field for field in ID_FIELDS if identification.get(field) is not None]
    if not given:
        yield ID_FIELDS[0], MissingIdError(400, "missing_event")
        return
    for field in given:
        yield from _broken(field, _check_id, identification[field], min_id_length)
    for field in _STRING_FIELDS & identification.keys():
        yield from _broken(field, _check_string, identification[field], field)
    yield from _broken("groups", _check_groups, identification.get("groups"))
    yield from _broken("user_properties", _check_properties, identification.get("user_properties"))


def _broken(
    field: str, examine: Callable[..., None], *values: object
) -> Iterator[tuple[str, RequestRefusedError]]:
    try:
        examine(*values)
    except RequestRefusedError as error:
        yield field, error


def _check_id(given: Json, min_length: int) -> None:
    if not isinstance(given, str):
        raise RequestRefusedError(400, "an id must be a string")
    # Spaces count for the length and are trimmed afterwards.
    if not min_length <= len(given) <= MAX_ID_LENGTH:
        raise IdLengthError(400, "invalid length of user_id or device_id")
    trimmed = given.strip()
    _require(trimmed != "" and trimmed.lower() not in REFUSED_IDS, "invalid user_id or device_id")


def _check_string(given: Json, field: str) -> None:
    _require(isinstance(given, str | None), f"{field} must be a string")


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
