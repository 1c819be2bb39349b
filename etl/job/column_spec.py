"""One column spec of a job: where a value comes from and what is done to it.

A frozen dataclass is what the file says and what the program uses: pydantic reads the file into it by the
annotations, and Python code makes it without them. A validator is called only for a key that the file has; it
sees the keys declared before its own in `info.data`, and `_role(info)` is what the spec is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from ..amplitude.requests import ID_FIELDS, LIST_OPERATORS, MAX_GROUP_VALUES
from . import words
from .problems import Problem, ProblemsError, clipped, did_you_mean
from .scalars import ConstantType, Data, ValueType, is_blank, written_constant
from .words import SECTION, NullWords, Text, as_list_of, key, optional, written_as

if TYPE_CHECKING:
    from collections.abc import Mapping

_StepWord: TypeAlias = Literal["trim", "lower", "upper", "hex", "uuid", "sha256"]
_Verb: TypeAlias = Literal[_StepWord, "prefix", "replace", "date_format"]
Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
# What a spec is for: an id, another field, the time or a group of the identification, or an operator.
SpecRole: TypeAlias = Literal["id", "field", "time", "group"] | str

STEP_WORDS: Final[tuple[_StepWord, ...]] = get_args(_StepWord)
# What an editor takes a plain scalar for.
_SCALAR: Final = {"type": ["string", "number", "boolean"], "minLength": 1}
_STRING_TYPES: Final = ("string", "number", "integer", "boolean", "date", "datetime")
# Why a role takes only some types, these, and what a constant must be in it, whatever the type.
_ROLE_TYPES: Final[Mapping[SpecRole, tuple[str, tuple[ValueType, ...], ConstantType]]] = {
    "id": ("Amplitude takes only text here", _STRING_TYPES, "string"),
    "field": ("Amplitude takes only text here", _STRING_TYPES, "string"),
    "group": ("a group is text or a list of text", (*_STRING_TYPES, "list"), "texts"),
    "time": ("`time` is a time", ("datetime", "date", "number", "integer"), "datetime"),
    "$add": ("`$add` adds numbers", ("number", "integer"), None),
}
_ANY_TYPE: Final = ("", get_args(ValueType), None)


# --- steps -----------------------------------------------------------------------------------------------


_Format: TypeAlias = Annotated[str, AfterValidator(words.date_format)]
_Formats: TypeAlias = Annotated[
    list[_Format], Field(min_length=1), AfterValidator(words.without_repeats), as_list_of(str)
]


@dataclass(frozen=True, slots=True)
class StepArgument:
    """A step of a transform that has an argument; exactly one key.

    - prefix: Puts this text before the value.
    - replace: Wherever a key stands in the value it becomes what stands beside the key.
    - date_format: Reads the text as a date of this format (strptime); of several formats the first that fits.
    """

    __pydantic_config__ = ConfigDict(**SECTION, json_schema_extra={"minProperties": 1, "maxProperties": 1})

    prefix: Text | None = key(examples=["crm-"])
    replace: Annotated[dict[Text, str], Field(min_length=1)] | None = None
    date_format: _Formats | None = key(examples=["%d/%m/%Y", ["%d.%m.%Y", "%Y-%m-%d"]])


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a column's transform."""

    # `prefix` has a string in `argument`. `replace` has `pairs` (from, to), used one after the other: `from`
    # becomes `to` wherever it stands in the value. `date_format` has `formats`; the first that fits counts.
    verb: _Verb
    argument: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    formats: tuple[str, ...] = ()


def _step(value: object, handler: ValidatorFunctionWrapHandler) -> Step:
    word = str(value) if isinstance(value, str) else None
    if word in STEP_WORDS:
        return Step(word)
    if isinstance(value, dict) and len(value) == 1:
        if (word := next(iter(value))) in STEP_WORDS:
            raise ValueError(f"takes `{word}` without an argument: write `- {word}`")
        given: StepArgument = handler(value)
        if given.replace is not None:
            return Step("replace", pairs=tuple(given.replace.items()))
        if given.prefix is not None:
            return Step("prefix", given.prefix)
        if given.date_format is not None:
            return Step("date_format", formats=tuple(given.date_format))
    elif word is None:
        raise ValueError("must be a word such as `trim`, or a mapping of one key such as {prefix: crm-}")
    elif word not in StepArgument.__slots__:
        known = (*STEP_WORDS, *StepArgument.__slots__)
        remedy = f"the steps are {', '.join(known)}{did_you_mean(word, known)}"
        raise ValueError(f"has no step `{clipped(word)}`; {remedy}")
    raise ValueError(f"needs an argument for `{word}`: write {{{word}: ...}}")


_CASES: Final = {"lower": str.lower, "upper": str.upper}
_StepEntry: TypeAlias = Annotated[
    Step,
    written_as(
        Annotated[StepArgument, WrapValidator(_step, json_schema_input_type=_StepWord | StepArgument)]
    ),
]


# --- what the keys of one spec mean together -------------------------------------------------------------


def _role(info: ValidationInfo) -> SpecRole:
    context: dict[str, Any] = info.context  # type: ignore[assignment]
    return str(context["role"])


def _written(value: Data, info: ValidationInfo) -> tuple[str, list[str]]:
    """The JSON text of a constant, a default or a word's value, and what is wrong with it in the role."""
    return written_constant(value, _ROLE_TYPES.get(_role(info), _ANY_TYPE)[2] or info.data.get("type"))


def _constant(value: Data, info: ValidationInfo) -> str | None:
    """The JSON text of a `value` or `default`."""
    role = _role(info)
    if info.field_name == "constant" and info.data.get("column") is not None:
        message = "`column` and `value` exclude each other: a value comes from the source or is a constant"
        raise ValueError(message)
    if is_blank(value):
        if info.field_name == "default":
            return None
        message = "is null, which Amplitude ignores; leave the property out, or list it under `$unset`"
        raise ValueError(message)
    text, found = _written(value, info)
    if role in LIST_OPERATORS and isinstance(value, dict):
        found.append("must be a list or one value for a list")
    if role == "group" and isinstance(value, list) and len(value) > MAX_GROUP_VALUES:
        found.append(f"has more than {MAX_GROUP_VALUES} groups of one type")
    if found:
        raise ProblemsError([Problem((), fault) for fault in found])
    return text


def _type(given: ValueType | None, info: ValidationInfo) -> ValueType | None:
    role = _role(info)
    why, allowed, _ = _ROLE_TYPES.get(role, _ANY_TYPE)
    if given is not None and given not in allowed:
        raise ValueError(f"can't be `{given}`: {why}; use {' or '.join(allowed)}")
    return "number" if given is None and role == "$add" else given


def _of_column(value: object, info: ValidationInfo) -> object:
    """A key that is for columns, not for constants, and only in some places or beside some types."""
    role, type_, key = _role(info), info.data.get("type"), info.field_name
    # A key that fails is not in `data`, so "" stands for one that is given and wrong.
    if info.data.get("column", "") is None and info.data.get("constant", "") is not None:
        raise ValueError("does nothing for a constant; take it out")
    if key == "null" and value == "unset" and role != "$set":
        raise ValueError("`null: unset` can't be used here; only a property under `$set` can be unset")
    if key == "empty" and value == "keep" and type_ not in {None, "string"}:
        raise ValueError("`empty: keep` is for text: empty text is not a value of another type")
    if key == "separator" and type_ != "list":
        raise ValueError("does nothing without `type: list`")
    if key == "mangled" and role != "id":
        ids = " and ".join(f"`{name}`" for name in ID_FIELDS)
        raise ValueError(f"can't be used here; only {ids} are ids")
    if key == "invalid" and value == "skip" and role == "id":
        raise ValueError("`invalid: skip` can't be used here; a row without its id is a reject")
    return value


def _of_date(given: str | None, info: ValidationInfo) -> str | None:
    """The `unit` or the `timezone` of a column of dates or times."""
    role, type_, steps = _role(info), info.data.get("type"), info.data.get("transform", ())
    formats = [one for step in steps for one in step.formats]
    dated = type_ in {"date", "datetime"} or (type_ is None and role == "time")
    if info.field_name == "unit" and formats:
        raise ValueError("does nothing beside `date_format`: it is for numbers")
    if not dated and (info.field_name == "unit" or not formats):
        raise ValueError("does nothing without `type: datetime` or `type: date`")
    if info.field_name == "unit":
        return given
    if info.data.get("unit", "") is not None and type_ != "date":
        raise ValueError("does nothing beside `unit`: numbers since 1970 count in UTC")
    if formats and (type_ == "date" or not dated):
        from ..dates import has_time  # it needs pyarrow, and few jobs need it

        if not any(map(has_time, formats)):
            raise ValueError("does nothing here: the dates of `date_format` have no time")
    if formats and steps[-1].verb != "date_format":
        raise ValueError("needs `date_format` to be the last step")
    return given


def _values(given: dict[str, Data] | None, info: ValidationInfo) -> tuple[tuple[str, str], ...]:
    """The trimmed words with the JSON text of what each stands for, sorted."""
    if given is None:
        return ()
    type_ = info.data.get("type")
    if _role(info) in {"id", "time"}:
        raise ValueError("can't be used here; an id and a time are not words")
    if type_ not in {None, "string", "number", "integer", "boolean"}:
        raise ValueError(f"can't be used with `type: {type_}`; leave the type out")
    problems, meanings = [], dict[str, str]()
    for given_word, value in given.items():
        word, text, found = given_word.strip(), "null", list[str]()
        if isinstance(value, list | dict):
            found.append("must stand for text, a number, true, false or null")
        elif not is_blank(value):
            text, found = _written(value, info)
        if word in meanings:
            found.append("stands in `values` twice; spaces around it don't count")
        problems += [Problem((given_word,), fault) for fault in found]
        meanings[word] = text
    if problems:
        raise ProblemsError(problems)
    return tuple(sorted(meanings.items()))


def _of_number(given: str, info: ValidationInfo) -> str:
    if info.data.get("values", "") != ():
        raise ValueError("does nothing beside `values`, which has a value for each text")
    if info.data.get("type") not in {"number", "integer"}:
        raise ValueError("does nothing without `type: number` or `type: integer`")
    if info.field_name == "thousands" and given == info.data.get("decimal"):
        raise ValueError(f"`thousands` and `decimal` are both `{given}`; give another sign for one of them")
    return given


_T = TypeVar("_T")
_OfColumn: TypeAlias = Annotated[_T, AfterValidator(_of_column)]
_OfDate: TypeAlias = Annotated[_T, AfterValidator(_of_column), AfterValidator(_of_date)]
_OfNumber: TypeAlias = Annotated[_T, AfterValidator(_of_column), AfterValidator(_of_number)]
_Type: TypeAlias = Annotated[ValueType | None, AfterValidator(_type)]
_Constant: TypeAlias = Annotated[str | None, PlainValidator(_constant, Any)]
_Steps: TypeAlias = Annotated[tuple[_StepEntry, ...], as_list_of(_StepEntry)]
_Parts: TypeAlias = Annotated[
    list[Text],
    Field(min_length=1),
    AfterValidator(tuple),
    BeforeValidator(lambda given: given.split(".") if isinstance(given, str) else given, Text | list[Text]),
]
_Words: TypeAlias = Annotated[dict[str, Any], Field(min_length=1)]
_Meanings: TypeAlias = Annotated[_OfColumn[_Words | None], AfterValidator(_values)]


@dataclass(frozen=True, slots=True)
class Ids:
    """How ids are handled.

    - mangled: What to do with ids such as 1.23E+15 or 1000.0, which a spreadsheet or a conversion has
      mangled: reject the row, or send the id as it is.
    """

    __pydantic_config__ = SECTION

    mangled: Literal["reject", "keep"] = "reject"


_Mangled: TypeAlias = Annotated[
    Literal["reject", "keep"], optional(Annotated[Ids, AfterValidator(lambda ids: ids.mangled)], "reject")
]


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Where a value comes from and what is done to it: transform, type, default, null, in this order.

    - column: The source's column.
    - type: What the value becomes; by default what the source has.
    - value: A constant instead of a column.
    - path: Where in an object of the column the value stands: parts with dots between, or a list.
    - transform: Steps in order, such as [trim, lower, sha256].
    - default: Stands for a null.
    - null: What a null does: the property is left alone, or unset (only under $set).
    - empty: An empty CSV field: a null, or empty text.
    - too_long: What to do with text that is too long for Amplitude: reject its row, or cut the text.
    - separator: Parts text into a list; for `type: list`.
    - ids: How mangled ids are handled; only for user_id and device_id.
    - nulls: Texts that mean null in this column, besides those of the job.
    - invalid: What to do with a value that doesn't fit: reject its row, or skip the value. Not for ids.
    - unit: What numbers count since 1970, for dates and times: seconds, or parts of a second.
    - timezone: The zone of times that don't say theirs; with `type: date`, days are those there.
    - values: What each text stands for: text, a number, true, false or null. Other texts don't fit.
    - decimal: The decimal sign of numbers in text.
    - thousands: The sign between groups of three digits, in numbers in text.
    - strip: Characters that are taken off both ends of the text before it is read as a number.
    """

    __pydantic_config__ = SECTION

    # Exactly one of `column` and `constant` is given. `constant`, `default` and what `values` have for each
    # word are JSON text of the type that the place takes. `nulls` has the words of the job, too.
    column: Annotated[Text, WithJsonSchema(_SCALAR)] | None = None
    type: _Type = key(validate_default=True)
    constant: _Constant = key(alias="value", examples=["crm"])
    path: Annotated[tuple[str, ...], optional(_OfColumn[_Parts], ())] = key(
        (), examples=["$oid", "profile.plan", ["a.b", "c"]]
    )
    transform: _OfColumn[_Steps] = ()
    default: _OfColumn[_Constant] = key(examples=["free", 0])
    null: _OfColumn[Literal["skip", "unset"]] = "skip"
    empty: _OfColumn[Literal["null", "keep"]] = "null"
    too_long: _OfColumn[Literal["reject", "truncate"]] = "reject"
    separator: _OfColumn[Text] = key(",", examples=[";"])
    mangled: _OfColumn[_Mangled] = key("reject", alias="ids")
    nulls: Annotated[tuple[str, ...], written_as(_OfColumn[NullWords])] = key((), examples=[["unknown", "-"]])
    invalid: _OfColumn[Literal["reject", "skip"]] = "reject"
    unit: _OfDate[Unit | None] = None
    timezone: _OfDate[Annotated[str, AfterValidator(words.time_zone)]] | None = key(
        examples=["Europe/Berlin"]
    )
    values: Annotated[tuple[tuple[str, str], ...], written_as(_Meanings)] = key(
        (), examples=[{"yes": True, "no": False}]
    )
    decimal: _OfNumber[words.DecimalSign] = key(".", examples=[","])
    thousands: Annotated[str, optional(_OfNumber[words.ThousandsSign], "")] = key("", examples=[".", " "])
    strip: Annotated[str, optional(_OfNumber[words.AroundNumbers], "")] = key("", examples=["€ ", "%"])


def without_effect(spec: ColumnSpec) -> Iterator[Problem]:
    """Steps and words of a spec that can't change what is sent."""
    verbs = [step.verb for step in spec.transform]
    for place, (verb, following) in enumerate(pairwise(verbs)):
        if (verb in _CASES and following in _CASES) or verb == following == "trim":
            yield Problem(("transform", place), f"`{verb}` does nothing before `{following}`")
    changing = [verb for verb in verbs if verb != "trim"]
    case = _CASES.get(changing[-1]) if changing else None
    if case is not None and not (spec.values or spec.strip) and spec.type in {"number", "integer", "boolean"}:
        message = f"`{changing[-1]}` does nothing before `type: {spec.type}`, which takes both cases"
        yield Problem(("transform",), message)
    for word, meaning in spec.values:
        if case is not None and word != case(word):
            message = f"`{clipped(word)}` never comes out of `{changing[-1]}`; write `{clipped(case(word))}`"
            yield Problem(("values", word), message)
        elif not changing and word in spec.nulls and meaning != "null":
            message = f"`{clipped(word)}` does nothing: it means null, as `nulls` has it"
            yield Problem(("values", word), message)


def column_entry(role: SpecRole) -> WrapValidator:
    """Annotates a ColumnSpec in a role: the file has a mapping, or only the column's name."""

    def read(value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> ColumnSpec:
        context: dict[str, Any] = info.context  # type: ignore[assignment]
        context["role"] = role
        if isinstance(value, str) and value:
            value = {"column": value}
        if isinstance(value, dict):
            spec: ColumnSpec = handler(value)
            nulls = sorted({*context.get("nulls", ()), *spec.nulls}) if spec.column is not None else ()
            spec = replace(spec, nulls=tuple(nulls))
            if problems := list(without_effect(spec)):
                raise ProblemsError(problems)
            return spec
        raise ValueError("must be a column's name, or a mapping such as {column: NAME}")

    word: Any = Annotated[str, WithJsonSchema(_SCALAR)]
    return WrapValidator(read, json_schema_input_type=word | ColumnSpec)
