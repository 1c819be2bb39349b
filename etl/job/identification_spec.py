"""The identification of a job: Amplitude's fields, groups and properties with column specs for values."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from .. import amplitude
from .column_spec import ColumnSpec, SpecRole, column_entry
from .problems import KeyPath, Problem, clipped
from .scalars import Data, blank_is_empty
from .words import Flag, keyed_section, written_as

if TYPE_CHECKING:
    from collections.abc import Iterator

# The roles of the keys that aren't string fields; under an operator, the operator is the role.
KEY_ROLES: Final[Mapping[str, Literal["id", "time", "group"]]] = {
    **dict.fromkeys(amplitude.ID_FIELDS, "id"),
    amplitude.TIME_FIELD: "time",
    "groups": "group",
}
# The keys of the file for fields, in the order of `Identification.fields`.
_FIELDS: Final = (*amplitude.ID_FIELDS, *amplitude.STRING_FIELDS, amplitude.TIME_FIELD)
_OPERATORS: Final = tuple(name for name in amplitude.OPERATORS if name not in {"$clearAll", "$unset"})


@dataclass(frozen=True, slots=True)
class Identification:
    """The identification of Amplitude's Identify API with column specs in place of values.

    `fields` has the ids, the string fields and the `time` by their API names; `groups` by group type;
    `operators` by operator and property, in the order of amplitude.OPERATORS and without $unset and
    $clearAll, which are the same for every row: `unset` names the properties, `clear_all` says whether.

    - user_id: Who: the id of your user. This or device_id is needed.
    - device_id: Who: the id of the device.
    - app_version: The version of the app.
    - platform: The platform. Of the device family.
    - os_name: The operating system. Of the device family.
    - os_version: The operating system's version. Of the device family.
    - device_brand: The device's brand. Of the device family.
    - device_manufacturer: Who made the device. Of the device family.
    - device_model: The device's model. Of the device family.
    - carrier: The mobile carrier. Of the device family.
    - country: The user's country. Of the place family.
    - region: The user's region. Of the place family.
    - city: The user's city. Of the place family.
    - dma: The designated market area. Of the place family.
    - language: The user's language.
    - paying: Whether the user pays: the text true or false.
    - start_version: The version of the app that the user first had.
    - time: When it became so; only with `transport: batch`.
    - groups: The user's groups by group type; at most 5 types.
    - user_properties: Properties (meaning $set), or operators with properties; never both.

    A property may stand under one operator only:

    - $clearAll: Removes all properties of the user first.
    - $unset: Names of properties to remove.
    - $set: Overwrites.
    - $setOnce: Sets what isn't set yet.
    - $add: Adds a number.
    - $append: Puts values at a list's end.
    - $prepend: Puts values at a list's beginning.
    - $preInsert: Puts values that aren't there yet at a list's beginning.
    - $postInsert: Puts values that aren't there yet at a list's end.
    - $remove: Takes values out of a list.
    """

    fields: Mapping[str, ColumnSpec]
    groups: Mapping[str, ColumnSpec] = field(default_factory=dict)
    operators: Mapping[str, Mapping[str, ColumnSpec]] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    clear_all: bool = False

    def located(self) -> Iterator[tuple[KeyPath, ColumnSpec]]:
        """Every column spec with its path below `identification`."""
        yield from (((name,), spec) for name, spec in self.fields.items())
        yield from ((("groups", name), spec) for name, spec in self.groups.items())
        for operator, properties in self.operators.items():
            yield from ((("user_properties", operator, name), spec) for name, spec in properties.items())

    def specs(self) -> list[tuple[str, ColumnSpec]]:
        """Every column spec with its path in the job file, such as `user_properties.$set.plan`."""
        return [(".".join(map(str, path)), spec) for path, spec in self.located()]

    def columns(self) -> tuple[str, ...]:
        """The source columns that the identification needs, each once, in order of first use."""
        return tuple(dict.fromkeys(spec.column for _, spec in self.specs() if spec.column is not None))


# --- how the file writes it ------------------------------------------------------------------------------


def _by_operator(properties: object) -> Any:
    """User properties with operators for keys: plain keys mean $set; beside operators they are left out."""
    if not isinstance(properties, dict):
        return blank_is_empty(properties)
    operators = {key: value for key, value in properties.items() if key.startswith("$")}
    return operators if operators or not properties else {"$set": properties}


# What is wrong with a name is said of all names together.
_Name: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1})]


def _columns(role: SpecRole) -> Any:
    return Annotated[dict[str, Annotated[ColumnSpec, column_entry(role)]], BeforeValidator(blank_is_empty)]


_DOC: Final = inspect.cleandoc(Identification.__doc__ or "")
_OperatorKeys: Final = keyed_section(
    "Operators",
    f"User properties by operator; a property may stand under one of them only.\n\n{_DOC}",
    {"$clearAll": Flag, "$unset": list[_Name], **{name: _columns(name) for name in _OPERATORS}},
)
# For the JSON Schema alone: properties without operators.
_PlainProperties: Final = Annotated[
    dict[Annotated[str, Field(pattern=r"^[^$]")], Annotated[ColumnSpec, column_entry("$set")]],
    Field(json_schema_extra={"additionalProperties": False}),
]
_Properties: Final[Any] = Annotated[
    _OperatorKeys, BeforeValidator(_by_operator, json_schema_input_type=_OperatorKeys | _PlainProperties)
]
_IdentificationKeys: Final = keyed_section(
    "Identification",
    _DOC,
    {
        **{name: Annotated[ColumnSpec, column_entry(KEY_ROLES.get(name, "field"))] for name in _FIELDS},
        "groups": _columns("group"),
        "user_properties": _Properties,
    },
    json_schema_extra={"anyOf": [{"required": [name]} for name in amplitude.ID_FIELDS]},
)


def _identification(keys: dict[str, Any]) -> Identification:
    given = {name: value for name, value in keys.items() if value}
    operators = {name: value for name, value in given.get("user_properties", {}).items() if value}
    return Identification(
        fields={name: given[name] for name in _FIELDS if name in given},
        groups=dict(sorted(given.get("groups", {}).items())),
        operators={name: dict(sorted(operators[name].items())) for name in _OPERATORS if name in operators},
        unset=tuple(sorted(operators.get("$unset", ()))),
        clear_all="$clearAll" in operators,
    )


IdentificationEntry: TypeAlias = Annotated[
    Identification, written_as(Annotated[_IdentificationKeys, AfterValidator(_identification)])
]


# --- what the keys mean together -------------------------------------------------------------------------


def identification_problems(
    identification: Identification,
    given: Mapping[str, Data],
    rules: amplitude.TransportRules,
    *,
    partial_families: bool,
) -> Iterator[Problem]:
    """What is wrong with the keys of an identification together; `given` is what the file has of it.

    `rules` are those of the job's transport. Paths begin below `identification`.
    """
    if not any(name in identification.fields for name in amplitude.ID_FIELDS):
        needed = "Amplitude needs one to know whose update it is"
        yield Problem((), f"neither `user_id` nor `device_id` is given; {needed}")
    if amplitude.TIME_FIELD in identification.fields and not rules.takes_time:
        message = (
            "`time` needs `transport: batch`: the Identify API takes no time. Add it to `destination`, or "
            "take the time out"
        )
        yield Problem((amplitude.TIME_FIELD,), message)
    for path, spec in identification.located():
        if spec.column is None and spec.constant is None:
            yield Problem(path, f"`{clipped(str(path[-1]))}` needs a `column`, or a `value` for a constant")
    for family in () if partial_families else amplitude.FAMILIES:
        present = [name for name in given if name in family]
        missing = ", ".join(f"`{name}`" for name in family if name not in given)
        if present and missing:
            names = ", ".join(f"`{name}`" for name in present)
            message = (
                f"{names} without {missing}: Amplitude updates them together, and sets to null those not "
                "given. Give all of them, or allow it with `partial_families: reset` at the top level"
            )
            yield Problem((present[0],), message)
    groups, properties = (
        part if isinstance(part := given.get(key), dict) else {} for key in ("groups", "user_properties")
    )
    for number, name in enumerate(groups):
        if not name.strip():
            yield Problem(("groups", name), "a group type has no name")
        if number == amplitude.MAX_GROUP_TYPES:
            message = f"is one group type too many: Amplitude takes {amplitude.MAX_GROUP_TYPES}"
            yield Problem(("groups", name), f"`{clipped(name)}` {message}")
    by_operator = _by_operator(properties)
    for name in properties if by_operator.keys() <= properties.keys() else ():
        if name not in by_operator:
            message = "stands beside operators, which Amplitude refuses; put it under `$set`"
            yield Problem(("user_properties", name), f"`{clipped(name)}` {message}")
    yield from _property_problems(by_operator)


def _property_problems(by_operator: Mapping[str, Data]) -> Iterator[Problem]:
    # A property's key is its name, or its place in the list of $unset.
    named: list[tuple[str, str, str | int]] = []
    for operator, given in by_operator.items():
        if isinstance(given, list):
            named += [(operator, str(name), place) for place, name in enumerate(given)]
        elif isinstance(given, dict):
            named += [(operator, name, name) for name in given]
    operator_of: dict[str, str] = {}
    for number, (operator, name, key) in enumerate(named):
        shown, path = f"`{clipped(name)}`", ("user_properties", operator, key)
        before = operator_of.get(name)
        operator_of.setdefault(name, operator)
        if before == operator:
            yield Problem(path, f"{shown} is listed twice under `{operator}`")
        elif before:
            message = f"stands under `{before}` and `{operator}`; a property takes one operator only"
            yield Problem(path, f"{shown} {message}")
        if not name.strip():
            yield Problem(path, "a property has no name")
        elif name.startswith("$"):
            message = "is not a name for a property: names that begin with `$` are operators"
            yield Problem(path, f"{shown} {message}")
        elif len(name) > amplitude.MAX_STRING_LENGTH:
            yield Problem(path, f"{shown} is longer than {amplitude.MAX_STRING_LENGTH} characters")
        if number == amplitude.MAX_PROPERTIES:
            message = f"is one property too many: at most {amplitude.MAX_PROPERTIES:,} can be sent"
            yield Problem(path, f"{shown} {message}")
