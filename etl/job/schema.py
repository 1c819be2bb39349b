"""The shape of a job file: its keys, their types and words. The JSON Schema comes from here too.

Only what can be said of one key by itself is checked here; what keys mean together is for the rules.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
)

from etl.amplitude import TransportName
from etl.job import notation
from etl.job.bare import Bare, is_blank
from etl.job.findings import did_you_mean, shown
from etl.job.spec import (
    DEFAULT_KEY_VARIABLE,
    DEFAULT_REGION,
    Absent,
    ChangesBy,
    Missing,
    PartialFamilies,
    Step,
    Unit,
    ValueType,
)

StepWord: TypeAlias = Literal["trim", "lower", "upper", "hex", "uuid", "sha256"]
STEP_WORDS: Final[tuple[StepWord, ...]] = ("trim", "lower", "upper", "hex", "uuid", "sha256")

MAX_SKIPPED: Final = 10_000

Text: TypeAlias = Annotated[str, Field(min_length=1)]
# What an editor takes a bare word for.
_WORD: Final = {"type": ["string", "number", "boolean"], "minLength": 1}
Word: TypeAlias = Annotated[str, WithJsonSchema(_WORD)]


class Shape(BaseModel):
    """A mapping of a job file: unknown keys and other types are faults, and values never show in errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


# --- a column spec ---------------------------------------------------------------------------------------


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


DateFormat: TypeAlias = Annotated[str, AfterValidator(notation.date_format)]
Formats: TypeAlias = Annotated[
    list[DateFormat],
    Field(min_length=1),
    AfterValidator(notation.date_formats),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]


class StepShape(Shape):
    """A step of a transform that has an argument; exactly one key."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    prefix: Text | None = Field(None, description="Puts this text before the value.", examples=["crm-"])
    replace: Annotated[dict[Text, str], Field(min_length=1)] | None = Field(
        None, description="Wherever a key stands in the value it becomes what stands beside the key."
    )
    date_format: Formats | None = Field(
        None,
        description="Reads the text as a date written so (strptime); of several formats the first that fits.",
        examples=["%d/%m/%Y", ["%d.%m.%Y", "%Y-%m-%d"]],
    )

    def step(self) -> Step:
        """The step as the rest of the program knows it."""
        if self.replace is not None:
            return Step("replace", pairs=tuple(self.replace.items()))
        if self.prefix is not None:
            return Step("prefix", self.prefix)
        first, *others = self.date_format or [""]
        return Step("date_format", formats=(first, *others)) if others else Step("date_format", first)


class WordShape(StepShape):
    """A step of a transform that is only a word."""

    word: StepWord

    def step(self) -> Step:
        """The step as the rest of the program knows it."""
        return Step(self.word)


def _step(value: object) -> object:
    if isinstance(value, str):
        return WordShape.model_construct(word=_step_word(value))
    if isinstance(value, dict) and len(value) == 1:
        word = next(iter(value))
        if word in STEP_WORDS:
            raise ValueError(f"takes `{word}` without an argument: write `- {word}`")
        return value
    raise ValueError("must be a word such as `trim`, or a mapping of one key such as {prefix: crm-}")


def _step_word(value: str) -> StepWord:
    for word in STEP_WORDS:
        if value == word:
            return word
    if value in StepShape.model_fields:
        raise ValueError(f"needs an argument for `{value}`: write {{{value}: ...}}")
    known = (*STEP_WORDS, *StepShape.model_fields)
    raise ValueError(
        f"has no step `{shown(value)}`; the steps are {', '.join(known)}{did_you_mean(value, known)}"
    )


StepEntry: TypeAlias = Annotated[
    StepShape, BeforeValidator(_step, json_schema_input_type=StepWord | StepShape)
]


NullWords: TypeAlias = Annotated[
    list[Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]


class IdsShape(Shape):
    """What becomes of ids."""

    mangled: Literal["reject", "keep"] = Field(
        "reject",
        description="What becomes of ids such as 1.23E+15 or 1000.0, which a spreadsheet or a conversion has "
        "mangled: the row is rejected, or the id is sent as it is.",
    )


def _parts(value: object) -> object:
    return str(value).split(".") if isinstance(value, str) else value


class ColumnShape(Shape):
    """Where a value comes from and what is done to it: transform, type, default, null, in this order."""

    column: Annotated[Text, WithJsonSchema({**_WORD, "description": "The source's column."})] | None = None
    path: (
        Annotated[
            list[Text], Field(min_length=1), BeforeValidator(_parts, json_schema_input_type=Text | list[Text])
        ]
        | None
    ) = Field(
        None,
        description="Where in an object of the column the value stands: parts with dots between, or a list.",
        examples=["$oid", "profile.plan", ["a.b", "c"]],
    )
    value: Any = Field(None, description="A constant instead of a column.", examples=["crm"])
    type: ValueType | None = Field(
        None, description="What the value becomes; by default what the source has."
    )
    transform: Annotated[
        list[StepEntry], BeforeValidator(_as_list, json_schema_input_type=StepEntry | list[StepEntry])
    ] = Field([], description="Steps in order, such as [trim, lower, sha256].")
    default: Any = Field(None, description="Stands for a null.", examples=["free", 0])
    null: Literal["skip", "unset"] = Field(
        "skip", description="What becomes of a null: the property is left alone, or unset (only under $set)."
    )
    empty: Literal["null", "keep"] = Field(
        "null", description="What an empty CSV field is: a null, or empty text."
    )
    too_long: Literal["reject", "truncate"] = Field(
        "reject",
        description="What becomes of text that is too long for Amplitude: the row is rejected, or it is cut.",
    )
    separator: Text = Field(",", description="Parts text into a list; for `type: list`.", examples=[";"])
    ids: IdsShape | None = Field(None, description="What becomes of ids; only for user_id and device_id.")
    nulls: NullWords = Field(
        [],
        description="Texts that mean null in this column, besides those of the job.",
        examples=[["unknown", "-"]],
    )
    invalid: Literal["reject", "skip"] = Field(
        "reject",
        description="What becomes of a value that doesn't fit: its row is rejected, or the row goes without "
        "it. Not for ids.",
    )
    timezone: Annotated[str, AfterValidator(notation.timezone)] | None = Field(
        None,
        description="The zone of times that don't say theirs; with `type: date`, days are those there.",
        examples=["Europe/Berlin"],
    )
    unit: Unit | None = Field(
        None,
        description="What numbers count since 1970, for dates and times: seconds, or parts of a second.",
    )
    decimal: Annotated[str, AfterValidator(notation.decimal)] = Field(
        ".", description="The decimal sign of numbers in text.", examples=[","]
    )
    thousands: Annotated[str, AfterValidator(notation.thousands)] | None = Field(
        None, description="The sign between groups of three digits, in numbers in text.", examples=[".", " "]
    )
    strip: Annotated[str, AfterValidator(notation.strip)] | None = Field(
        None,
        description="Characters that are taken off both ends of the text before it is read as a number.",
        examples=["€ ", "%"],
    )
    values: Annotated[dict[str, Any], Field(min_length=1)] | None = Field(
        None,
        description="What each text stands for: text, a number, true, false or null. Other texts don't fit.",
        examples=[{"yes": True, "no": False}],
    )


def _column(value: object) -> object:
    """A bare word is a column's name."""
    if isinstance(value, str) and value:
        return {"column": value}
    if isinstance(value, dict):
        return value
    raise ValueError("must be a column's name, or a mapping such as {column: NAME}")


ColumnEntry: TypeAlias = Annotated[
    ColumnShape, BeforeValidator(_column, json_schema_input_type=Word | ColumnShape)
]


# --- the identification ----------------------------------------------------------------------------------


def _blank_is_empty(value: object) -> object:
    return {} if is_blank(value) else value


def _meaning(value: object) -> object:
    return value.meaning if isinstance(value, Bare) else value


Columns: TypeAlias = Annotated[dict[str, ColumnEntry], BeforeValidator(_blank_is_empty)]
Properties: TypeAlias = Annotated[
    dict[Annotated[str, Field(pattern=r"^[^$]")], ColumnEntry],
    Field(json_schema_extra={"additionalProperties": False}),
]


def by_operator(properties: object) -> object:
    """User properties with operators for keys: plain keys mean $set; beside operators they are left out."""
    if not isinstance(properties, dict):
        return _blank_is_empty(properties)
    operators = {key: value for key, value in properties.items() if key.startswith("$")}
    return operators if operators or not properties else {"$set": properties}


def _operator(name: str, description: str) -> Any:
    return Field({}, alias=name, description=description)


class OperatorsShape(Shape):
    """User properties by operator; a property may stand under one of them only."""

    clear_all: Annotated[bool, BeforeValidator(_meaning, json_schema_input_type=bool)] = Field(
        False, alias="$clearAll", description="Removes all properties of the user first."
    )
    unset: list[Text] = Field([], alias="$unset", description="Names of properties to remove.")
    set: Columns = _operator("$set", "Overwrites.")
    set_once: Columns = _operator("$setOnce", "Sets what isn't set yet.")
    add: Columns = _operator("$add", "Adds a number.")
    append: Columns = _operator("$append", "Puts values at a list's end.")
    prepend: Columns = _operator("$prepend", "Puts values at a list's beginning.")
    pre_insert: Columns = _operator("$preInsert", "Puts values that aren't there yet at a list's beginning.")
    post_insert: Columns = _operator("$postInsert", "Puts values that aren't there yet at a list's end.")
    remove: Columns = _operator("$remove", "Takes values out of a list.")


def _string(description: str) -> Any:
    return Field(None, description=description)


class IdentificationShape(Shape):
    """The identification of Amplitude's Identify API with column specs in place of values."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["user_id"]}, {"required": ["device_id"]}]}
    )

    user_id: ColumnEntry | None = _string("Who: the id of your user. This or device_id is needed.")
    device_id: ColumnEntry | None = _string("Who: the id of the device.")
    user_properties: Annotated[
        OperatorsShape, BeforeValidator(by_operator, json_schema_input_type=OperatorsShape | Properties)
    ] = Field(
        default_factory=OperatorsShape,
        description="Properties (meaning $set), or operators with properties; never both.",
    )
    groups: Columns = Field({}, description="The user's groups by group type; at most 5 types.")
    app_version: ColumnEntry | None = _string("The version of the app.")
    platform: ColumnEntry | None = _string("The platform. Of the device family.")
    os_name: ColumnEntry | None = _string("The operating system. Of the device family.")
    os_version: ColumnEntry | None = _string("The operating system's version. Of the device family.")
    device_brand: ColumnEntry | None = _string("The device's brand. Of the device family.")
    device_manufacturer: ColumnEntry | None = _string("Who made the device. Of the device family.")
    device_model: ColumnEntry | None = _string("The device's model. Of the device family.")
    carrier: ColumnEntry | None = _string("The mobile carrier. Of the device family.")
    country: ColumnEntry | None = _string("The user's country. Of the place family.")
    region: ColumnEntry | None = _string("The user's region. Of the place family.")
    city: ColumnEntry | None = _string("The user's city. Of the place family.")
    dma: ColumnEntry | None = _string("The designated market area. Of the place family.")
    language: ColumnEntry | None = _string("The user's language.")
    paying: ColumnEntry | None = _string("Whether the user pays: the text true or false.")
    start_version: ColumnEntry | None = _string("The version of the app that the user first had.")
    time: ColumnEntry | None = _string("When it became so; only with `transport: batch`.")


# --- the rest of the job ---------------------------------------------------------------------------------


def _expanded(text: str, info: ValidationInfo) -> str:
    context = info.context or {}
    key_variable = context.get("key_variable", DEFAULT_KEY_VARIABLE)
    return notation.expanded(text, context.get("environ", {}), key_variable=key_variable)


Expanded: TypeAlias = Annotated[Text, AfterValidator(_expanded), Field(min_length=1)]


def _header(value: object) -> object:
    """False, or names; a bare word that says neither is told as a fault."""
    meant = _meaning(value)
    if meant is False or meant is None:
        return meant
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a list of the columns' names, or false where the file has no header")
    twice = [name for place, name in enumerate(value) if name in value[:place]]
    if twice:
        raise ValueError(f"has `{shown(twice[0])}` twice")
    return value


def _rows(value: object) -> object:
    meant = _meaning(value)
    if isinstance(meant, bool) or not isinstance(meant, int) or not 0 <= meant <= MAX_SKIPPED:
        raise ValueError(f"must be a number of lines, at most {MAX_SKIPPED:,}")
    return meant


class CsvShape(Shape):
    """How CSV files are written; Parquet and NDJSON need none of it."""

    delimiter: Annotated[str, AfterValidator(notation.delimiter)] | None = Field(
        None,
        description="One character or `tab`; by default the likeliest of , ; tab |.",
        examples=[";", "tab"],
    )
    encoding: Annotated[Text, AfterValidator(notation.encoding)] = Field(
        "utf-8", description="The text encoding.", examples=["utf-8", "latin-1", "cp1252"]
    )
    quote: Annotated[str, AfterValidator(notation.quote)] = Field('"', description="The sign around fields.")
    escape: Annotated[str, AfterValidator(notation.escape)] | None = Field(
        None,
        description="The character that stands before quotes, itself, delimiters and line ends in values.",
        examples=["\\"],
    )
    header: Annotated[
        list[Text] | Literal[False] | None,
        BeforeValidator(_header, json_schema_input_type=list[Text] | Literal[False]),
    ] = Field(
        None,
        description="For files without a header: the names of the columns, or false for `1`, `2`, ...",
        examples=[["id", "plan"], False],
    )
    skip_rows: Annotated[int, BeforeValidator(_rows, json_schema_input_type=int)] = Field(
        0, description="How many lines stand above the header, or above the rows of a file without one."
    )


class DestinationShape(Shape):
    """Where identifications go."""

    region: Annotated[Expanded, AfterValidator(notation.endpoint)] = Field(
        DEFAULT_REGION,
        description="The project's region, us or eu, or a base URL. ${VAR} is expanded.",
        examples=["us", "eu", "http://127.0.0.1:8080"],
        validate_default=True,
    )
    transport: TransportName = Field(
        "identify",
        description="How: identify is the Identify API; batch is $identify events over the Batch API, which "
        "count once however often they are sent.",
    )
    trust_status: Annotated[bool, BeforeValidator(_meaning, json_schema_input_type=bool)] = Field(
        False,
        description="Takes any 2xx for an acceptance, whatever its body says; only with the base URL of a "
        "relay of your own.",
    )


class ChangesShape(Shape):
    """What counts as a change since the last run."""

    by: ChangesBy = Field("property", description="What is compared, and sent where it changed.")
    ignore: list[Text] = Field(
        [], description="Columns whose change alone is no reason to send.", examples=[["last_login_at"]]
    )


def _missing(value: object) -> object:
    """YAML's null, as a file and as data have it, is the word."""
    return "null" if is_blank(value) else value


def _changes(value: object) -> object:
    """A word says what is compared."""
    if isinstance(value, Bare | str) and not is_blank(value):
        return {"by": value}
    return _blank_is_empty(value)


class JobShape(Shape):
    """A job: where rows come from, how they become identifications, and where those go."""

    name: Annotated[Text, AfterValidator(notation.job_name)] | None = Field(
        None, description="Names the state folder; by default the file's name without its ending."
    )
    source: Annotated[list[Expanded], BeforeValidator(_as_list, json_schema_input_type=Text | list[Text])] = (
        Field(
            [],
            description="Files, folders, globs or URLs, relative to this file. ${VAR} is expanded.",
            examples=["exports/users-*.parquet"],
        )
    )
    csv: Annotated[CsvShape, BeforeValidator(_blank_is_empty, json_schema_input_type=CsvShape)] = Field(
        default_factory=CsvShape, description="How CSV files are written."
    )
    nulls: NullWords = Field(
        [],
        description="Texts that mean null in any text column, compared without the spaces around them.",
        examples=[["NULL", "\\N", "n/a", "-"]],
    )
    missing: Annotated[
        Missing,
        BeforeValidator(_missing, json_schema_input_type=Missing),
        WithJsonSchema({"enum": ["fail", "null", None], "default": "fail"}),
    ] = Field(
        "fail",
        description="What it means that a file lacks a column which other files have: the run stops before "
        "anything is sent, or the column is null there. In NDJSON it is always null.",
    )
    transform: Annotated[str, AfterValidator(notation.hook)] | None = Field(
        None,
        description="A Python function from DataFrame to DataFrame.",
        examples=["package.module:function"],
    )
    identification: IdentificationShape = Field(
        description="What Amplitude gets, with columns in place of values."
    )
    partial_families: PartialFamilies = Field(
        "refuse",
        description="`reset` allows to map a part of a family; Amplitude then resets the rest of it to null.",
    )
    destination: Annotated[
        DestinationShape, BeforeValidator(_blank_is_empty, json_schema_input_type=DestinationShape)
    ] = Field(default_factory=DestinationShape, description="Where identifications go.")
    changes: Annotated[
        ChangesShape, BeforeValidator(_changes, json_schema_input_type=ChangesBy | ChangesShape)
    ] = Field(
        default_factory=ChangesShape,
        description="What is compared with the last run: every property, users as a whole, or nothing (off).",
        examples=["user", {"ignore": ["last_login_at"]}],
    )
    absent: Absent = Field(
        "keep",
        description="`unset` unsets the job's properties for users who were in the last export and left.",
    )
    api_key_env: Annotated[str, AfterValidator(notation.variable_name)] = Field(
        DEFAULT_KEY_VARIABLE, description="The environment variable that holds the API key."
    )
    api_key_file: Text | None = Field(
        None, description="The file that holds the API key, relative to this file."
    )
