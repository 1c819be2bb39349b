"""What annotates the keys of a job file: how pydantic reads what the file has into what the program uses."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    GetPydanticSchema,
    Strict,
    StringConstraints,
    WithJsonSchema,
)

from .problems import Problem, ProblemsError, clipped
from .scalars import resolved_scalar

# Of every section of a job file. The text below a key is for editors: the JSON Schema has it.
SECTION: Final = ConfigDict(extra="forbid", hide_input_in_errors=True)

Text: TypeAlias = Annotated[str, StringConstraints(min_length=1)]
_NULL_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}
Flag: TypeAlias = Annotated[bool, Strict(), BeforeValidator(resolved_scalar, json_schema_input_type=bool)]


def written_as(file_type: Any) -> GetPydanticSchema:
    """Annotates a field that a file writes as `file_type`, whose validators make it what the field is."""
    return GetPydanticSchema(lambda _, handler: handler.generate_schema(file_type))


def optional(file_type: Any, absent: object) -> GetPydanticSchema:
    """Annotates a field that a file writes as `file_type`, and that is `absent` where it is null."""
    given = AfterValidator(lambda value: absent if value is None else value)
    return written_as(Annotated[file_type | None, given])


def as_list_of(item: Any) -> BeforeValidator:
    """Annotates a list that a file may write as its one item, a text or a mapping."""

    def as_list(value: object) -> object:
        return [value] if isinstance(value, str | dict) else value

    return BeforeValidator(as_list, item | list[item])


def _null_words(given: tuple[str, ...]) -> tuple[str, ...]:
    stripped = [word.strip() for word in given]
    repeated = [
        Problem((number,), f"`{clipped(word)}` stands in `nulls` twice; spaces around it don't count")
        for number, word in enumerate(stripped)
        if word in stripped[:number]
    ]
    if repeated:
        raise ProblemsError(repeated)
    if not given:
        raise ValueError("is empty; list the texts that mean null, or take it out")
    return tuple(stripped)


NullWords: TypeAlias = Annotated[
    tuple[Annotated[str, WithJsonSchema(_NULL_SCALAR)], ...],
    AfterValidator(_null_words),
    as_list_of(str),
    BeforeValidator(lambda value: [] if value == "" else value, str | list[str]),
]
