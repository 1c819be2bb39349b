"""What the keys of a job file mean together. Every rule is asked, so that all faults are told at once.

The rules take any data: what has the wrong shape is passed over, as the door tells that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from etl import amplitude
from etl.job.changes_rules import changes_findings
from etl.job.column_rules import Place, column_findings, null_findings
from etl.job.findings import Finding, Path, shown
from etl.job.schema import by_operator
from etl.job.spec import DEFAULT_KEY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from etl.job.bare import Tree

_SECTIONS: Final = ("identification", "destination", "csv")
_SECRET: Final = re.compile("apikey|secret|password|token|writekey|^key$")
_KEY_PLACES: Final = ("api_key_env", "api_key_file")


def job_findings(data: Mapping[str, Tree]) -> Iterator[Finding]:
    """Everything that is wrong with the sense of a job's data."""
    yield from _secrets(data)
    yield from _destination(data)
    identification = _mapping(data, "identification")
    if identification:
        yield from _ids(identification)
        yield from _families(identification, data.get("partial_families"))
    yield from null_findings(data, ())
    yield from _groups(_mapping(identification, "groups"))
    properties = _mapping(identification, "user_properties")
    yield from _spelling(properties)
    yield from _properties(properties)
    specs = list(_specs(identification))
    for path, place, spec in specs:
        yield from column_findings(spec, place, path)
    yield from changes_findings(data, specs)


def _mapping(data: Mapping[str, Tree], key: str) -> dict[str, Tree]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _secrets(data: Mapping[str, Tree]) -> Iterator[Finding]:
    """Keys that hold secrets, wherever a section is; their values are never shown."""
    places: list[tuple[Path, Mapping[str, Tree]]] = [((), data)]
    places += [((section,), _mapping(data, section)) for section in _SECTIONS]
    for path, section in places:
        for key in section:
            if key not in _KEY_PLACES and _SECRET.search(re.sub(r"[^a-z]", "", key.lower())):
                yield Finding((*path, key), _secret(key))
    if all(place in data for place in _KEY_PLACES):
        yield Finding(
            ("api_key_file",), "`api_key_env` and `api_key_file` exclude each other: give one of them"
        )


def _secret(key: str) -> str:
    return (
        f"`{shown(key)}`: secrets can't stand in a job file. Put the API key into the environment variable "
        f"{DEFAULT_KEY_VARIABLE}, or name another variable with `api_key_env`, or a file with `api_key_file`"
    )


def _destination(data: Mapping[str, Tree]) -> Iterator[Finding]:
    transport = _mapping(data, "destination").get("transport", "identify")
    if transport == "identify" and amplitude.TIME_FIELD in _mapping(data, "identification"):
        message = "`time` needs `transport: batch`: the Identify API takes no time. Say so, or take it out"
        yield Finding(("identification", amplitude.TIME_FIELD), message)


def _ids(identification: dict[str, Tree]) -> Iterator[Finding]:
    if not any(name in identification for name in amplitude.ID_FIELDS):
        message = "neither `user_id` nor `device_id` is given; Amplitude needs one to know whose update it is"
        yield Finding(("identification",), message)


def _families(identification: dict[str, Tree], policy: Tree) -> Iterator[Finding]:
    if policy == "reset":
        return
    for family in amplitude.FAMILIES:
        given = [name for name in identification if name in family]
        missing = [name for name in family if name not in identification]
        if given and missing:
            yield Finding(("identification", given[0]), _partial(given, missing))


def _partial(given: list[str], missing: list[str]) -> str:
    return (
        f"{_names(given)} without {_names(missing)}: Amplitude updates them together, and sets to null those "
        "not given. Give all of them, or allow it with `partial_families: reset` at the top level"
    )


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _groups(groups: dict[str, Tree]) -> Iterator[Finding]:
    path: Path = ("identification", "groups")
    for name in groups:
        if not name.strip():
            yield Finding((*path, name), "a group type has no name")
    for name in list(groups)[amplitude.MAX_GROUP_TYPES : amplitude.MAX_GROUP_TYPES + 1]:
        message = f"`{shown(name)}` is one group type too many: Amplitude takes {amplitude.MAX_GROUP_TYPES}"
        yield Finding((*path, name), message)


def _spelling(properties: dict[str, Tree]) -> Iterator[Finding]:
    """Plain keys or operators, never both."""
    plain = [name for name in properties if not name.startswith("$")]
    if len(plain) == len(properties):
        return
    for name in plain:
        message = f"`{shown(name)}` stands beside operators, which Amplitude refuses; put it under `$set`"
        yield Finding(("identification", "user_properties", name), message)


def _named(properties: dict[str, Tree]) -> Iterator[tuple[str, str, Path]]:
    """Every property with its operator and path, in the order of the file; list entries of $unset too."""
    for operator, named in _operators(properties).items():
        path: Path = ("identification", "user_properties", operator)
        if isinstance(named, dict):
            yield from ((name, operator, (*path, name)) for name in named)
        elif isinstance(named, list):
            yield from ((name, operator, (*path, i)) for i, name in enumerate(named) if isinstance(name, str))


def _operators(properties: dict[str, Tree]) -> dict[str, Tree]:
    """The known operators; an unknown one is for the door to tell."""
    operators = by_operator(properties)
    known = operators.items() if isinstance(operators, dict) else ()
    return {name: named for name, named in known if name in amplitude.OPERATORS}


def _properties(properties: dict[str, Tree]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for count, (name, operator, path) in enumerate(_named(properties), start=1):
        if name in first:
            yield Finding(path, _twice(name, first[name], operator))
        first.setdefault(name, operator)
        if fault := _name_fault(name):
            yield Finding(path, fault)
        if count == amplitude.MAX_PROPERTIES + 1:
            message = (
                f"`{shown(name)}` is one property too many: at most {amplitude.MAX_PROPERTIES:,} can be sent"
            )
            yield Finding(path, message)


def _twice(name: str, before: str, now: str) -> str:
    if before == now:
        return f"`{shown(name)}` is listed twice under `{now}`"
    return f"`{shown(name)}` stands under `{before}` and `{now}`; a property takes one operator only"


def _name_fault(name: str) -> str | None:
    if not name.strip():
        return "a property has no name"
    if name.startswith("$"):
        return f"`{shown(name)}` is no name for a property: what begins with `$` is an operator"
    if len(name) > amplitude.MAX_STRING_LENGTH:
        return f"`{shown(name)}` is longer than {amplitude.MAX_STRING_LENGTH} characters"
    return None


def _specs(identification: dict[str, Tree]) -> Iterator[tuple[Path, Place, Tree]]:
    """Every column spec with its path and place."""
    root: Path = ("identification",)
    for name in (*amplitude.ID_FIELDS, *amplitude.STRING_FIELDS):
        yield (*root, name), "field", identification.get(name)
    yield (*root, amplitude.TIME_FIELD), "time", identification.get(amplitude.TIME_FIELD)
    for name, spec in _mapping(identification, "groups").items():
        yield (*root, "groups", name), "group", spec
    for operator, named in _operators(_mapping(identification, "user_properties")).items():
        for name, spec in named.items() if isinstance(named, dict) else ():
            yield (*root, "user_properties", operator, name), operator, spec
