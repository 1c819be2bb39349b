"""The rules of the API for identifications, the refusals that break them cause, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

from .api_rules import (
    DEEPEST_VALUE,
    ID_KEYS,
    ITEM_OPERATORS,
    LONGEST_ID,
    MOST_GROUP_TYPES,
    MOST_GROUPS,
    MOST_PROPERTIES,
    ORDERED_OPERATORS,
    REFUSED_IDS_LOWER,
    SHORTEST_ID,
    TEXT_KEYS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Identification: TypeAlias = dict[str, Json]

_OPERATORS: Final = frozenset(ORDERED_OPERATORS)
_KEYED_OPERATORS: Final = _OPERATORS - {"$clearAll"}
_NUMBERS: Final = frozenset({int, float, type(None)})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is sent; JSON where `text` is an object. `reason` is empty for a success."""

    status: int
    text: str
    reason: str = ""


class RequestRefusedError(Exception):
    """The request is answered with `status` and nothing of it is applied.

    `message` and, in a JSON answer, `details` go to the client; `reason` is the message without what may not
    be kept, such as a key.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: str | None = None,
        details: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = message if reason is None else reason
        self.details = details

    def as_answer(self) -> Answer:
        """Answer as the Identify API does: these two messages as bare text, all others as JSON."""
        if self.message in {"missing_event", "invalid_api_key"}:
            return Answer(self.status, self.message, self.reason)
        return self.as_json_answer()

    def as_json_answer(self) -> Answer:
        """Answer with a JSON object, as the event APIs always do."""
        body = {"code": self.status, "error": self.message, **self.details}
        return Answer(self.status, orjson.dumps(body).decode(), self.reason)


class MissingIdError(RequestRefusedError):
    """An identification without an id."""


class IdLengthError(RequestRefusedError):
    """An id is too short or too long."""


def parse_identifications(text: str) -> list[Identification]:
    """Parse JSON text that holds one identification or an array. Raises RequestRefusedError."""
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:  # also for NaN, infinities and lone surrogates
        raise RequestRefusedError(400, "missing_event") from error
    found = parsed if isinstance(parsed, list) else [parsed]
    if not found or not all(isinstance(one, dict) for one in found):
        raise RequestRefusedError(400, "missing_event")
    return found


def trimmed_id(identification: Mapping[str, Json], field: str) -> str | None:
    """Return the id in `field` without the spaces around it, or None."""
    given = identification.get(field)
    return given.strip() if isinstance(given, str) else None


def check(identification: Identification, min_id_length: int = SHORTEST_ID) -> None:
    """Raise RequestRefusedError where an identification breaks a rule of the API."""
    for _, error in broken_rules(identification, min_id_length):
        raise error


def broken_rules(
    identification: Identification, min_id_length: int = SHORTEST_ID
) -> Iterator[tuple[str, RequestRefusedError]]:
    """Yield each field that breaks a rule, with the refusal; without an id only that is reported."""
    given = [field for field in ID_KEYS if identification.get(field) is not None]
    if not given:
        yield ID_KEYS[0], MissingIdError(400, "missing_event")
        return
    for field, value in identification.items():
        try:
            if field in given:
                _check_id(value, min_id_length)
            elif field == "groups":
                _check_groups(value)
            elif field == "user_properties":
                _check_properties(value)
            elif field in TEXT_KEYS:
                _require(isinstance(value, str | None), f"{field} must be a string")
        except RequestRefusedError as error:
            yield field, error


def _check_id(given: Json, min_length: int) -> None:
    if not isinstance(given, str):
        raise RequestRefusedError(400, "an id must be a string")
    # Spaces count for the length and are trimmed afterwards.
    if not min_length <= len(given) <= LONGEST_ID:
        raise IdLengthError(400, "invalid length of user_id or device_id")
    trimmed = given.strip()
    _require(trimmed != "" and trimmed.lower() not in REFUSED_IDS_LOWER, "invalid user_id or device_id")


def _check_groups(groups: Json) -> None:
    groups = _object({} if groups is None else groups, "groups")
    values = [v for value in groups.values() for v in (value if isinstance(value, list) else [value])]
    _require(not any(isinstance(v, dict | list) for v in values), "a group must be a value or a list")
    _require(len(groups) <= MOST_GROUP_TYPES, f"more than {MOST_GROUP_TYPES} group types")
    _require(len(values) <= MOST_GROUPS, f"more than {MOST_GROUPS} groups")


def _check_properties(properties: Json) -> None:
    properties = _object({} if properties is None else properties, "user_properties")
    operators = _OPERATORS & properties.keys()
    if operators:
        _require(len(operators) == len(properties), "plain user_properties beside operators")
        _check_operators(properties)
        return
    _require(len(properties) <= MOST_PROPERTIES, f"more than {MOST_PROPERTIES} user_properties")
    for name, value in properties.items():
        _require(name[:1] != "$", "unknown operator in user_properties")
        _check_depth(value, 1)


def _check_operators(updates: dict[str, Json]) -> None:
    seen: set[str] = set()
    count = 0
    for operator in _KEYED_OPERATORS & updates.keys():
        operands = _object(updates[operator], operator)
        seen.update(operands)
        count += len(operands)
        if operator == "$add":
            _require(all(type(v) in _NUMBERS for v in operands.values()), "$add takes numbers")
        for value in operands.values():
            # The value of a list operator becomes an item of a list, or several.
            _check_depth(value, 2 if operator in ITEM_OPERATORS and isinstance(value, dict) else 1)
    _require(count == len(seen), "two operators on one user property")
    _require(count <= MOST_PROPERTIES, f"more than {MOST_PROPERTIES} user_properties")


def _check_depth(value: Json, depth: int) -> None:
    if not isinstance(value, dict | list):
        return
    _require(depth <= DEEPEST_VALUE, f"user_properties deeper than {DEEPEST_VALUE}")
    listed = isinstance(value, list)
    for item in value.values() if isinstance(value, dict) else value:
        _require(not (listed and isinstance(item, list)), "a list inside a list")
        _check_depth(item, depth + 1)


def _object(value: Json, name: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise RequestRefusedError(400, f"{name} must be an object")
    return value


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RequestRefusedError(400, message)
