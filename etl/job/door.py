"""Data of a job's shape comes through; of any other, all faults are told at once and in plain words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from pydantic import ValidationError

from etl.job.bare import Tree, is_blank
from etl.job.findings import Finding, Path, did_you_mean, nearest, shown
from etl.job.schema import STEP_WORDS, IdentificationShape, JobShape, Shape, StepShape
from etl.job.spec import DEFAULT_KEY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

MAX_SUGGESTED: Final = (
    100  # of a file with more unknown keys nobody reads the suggestions, and they take time
)

_WORDS: Final = {
    "string_type": "must be text",
    "string_too_short": "is empty",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "too_short": "is empty",
    "bool_type": "must be true or false",
}


def shape(data: Mapping[str, Tree], environ: Mapping[str, str]) -> JobShape | list[Finding]:
    """The data as a JobShape, or all its faults."""
    context = {"environ": environ, "key_variable": str(data.get("api_key_env", DEFAULT_KEY_VARIABLE))}
    try:
        return JobShape.model_validate(data, context=context)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        return [_finding(details, number < MAX_SUGGESTED) for number, details in enumerate(errors)]


def _finding(details: ErrorDetails, suggest: bool) -> Finding:
    path = tuple(key for key in details["loc"] if key != "[key]")
    name = f"`{shown(str(_name(path)))}`"
    kind = details["type"]
    if kind == "missing":
        return Finding(path[:-1], f"{name} is missing")
    if kind == "extra_forbidden":
        return Finding(path, f"unknown key {name}" + (_remedy(path) if suggest else ""))
    if kind == "literal_error":
        return Finding(path, f"{name} {_choice(details)}")
    if kind == "value_error":
        return Finding(path, f"{name} {details['ctx']['error']}")
    return Finding(path, f"{name} {_WORDS.get(kind, details['msg'])}")


def _name(path: Path) -> str | int:
    """The last key of a path; an item of a list goes by the list's name."""
    return next((key for key in reversed(path) if isinstance(key, str)), "job")


def _choice(details: ErrorDetails) -> str:
    choices = re.findall(r"'([^']*)'", details["ctx"]["expected"])
    *others, last = [f"`{choice}`" for choice in choices]
    allowed = f"must be {', '.join(others)} or {last}" if others else f"must be {last}"
    given = details["input"]
    if is_blank(given):
        return f"is empty; it {allowed}"
    if not isinstance(given, str):
        return allowed
    return f"is `{shown(given)}`; it {allowed}{did_you_mean(given, choices)}"


def _remedy(path: Path) -> str:
    """What to do about an unknown key: where it belongs, or what it was meant to be."""
    word = str(path[-1])
    if len(path) <= 2 and (home := _home(word)):
        return f"; it belongs {home}"
    owner = _shape_at(path[:-1])
    known = [*_fields(owner), *(STEP_WORDS if owner is StepShape else ())]
    if owner is IdentificationShape and nearest(word, known) is None:
        return "; properties belong under `user_properties`"
    return did_you_mean(word, known)


def _home(word: str) -> str | None:
    """Where a key stands that is known elsewhere."""
    if word in JobShape.model_fields:
        return "at the top level"
    for section, field in JobShape.model_fields.items():
        owner = _shape_in(field.annotation)
        if owner is not None and word in _fields(owner):
            return f"under `{section}`"
    return None


def _fields(owner: type[Shape]) -> dict[str, Any]:
    """The annotation of each key, by the key as it stands in a file."""
    return {field.alias or name: field.annotation for name, field in owner.model_fields.items()}


def _shape_at(path: Path) -> type[Shape]:
    """The shape that a path of the file has; keys of a user's own (properties, groups) are passed over."""
    owner: type[Shape] = JobShape
    keys = iter(path)
    for key in keys:
        annotation = _fields(owner).get(str(key))
        owner = _shape_in(annotation) or owner
        if get_origin(annotation) is dict:
            next(keys, None)
    return owner


def _shape_in(annotation: object) -> type[Shape] | None:
    """The one shape that an annotation holds, if any."""
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        return annotation
    return next((found for part in get_args(annotation) if (found := _shape_in(part))), None)
