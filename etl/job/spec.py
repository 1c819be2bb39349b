"""A job: what its file says, checked, as one frozen structure that the rest of the program uses.

A new key of a job is a field here, with its type and its default, and a line of the docstring, which is the
text that editors show.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, InitVar, dataclass, field, fields, replace
from functools import cache
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, SkipJsonSchema

from .. import amplitude
from ..amplitude.requests import UNREPEATABLE
from ..errors import JobError
from ..text import html_table
from . import words
from .identification_spec import IdentificationEntry, identification_problems
from .known_job import file_digest
from .loading import Document, UnreadableError, document_of, read_document, read_file
from .problems import (
    DEFAULT_KEY_VARIABLE,
    Problem,
    clipped,
    did_you_mean,
    faults,
    line_of,
    validation_problems,
)
from .scalars import Data, blank_is_empty, is_blank
from .sections import (
    Absent,
    Changes,
    ChangesBy,
    CsvOptions,
    Destination,
    ExcelOptions,
    FileOptions,
    RunOptions,
    with_sheet,
)
from .words import SECTION, NullWords, Text, as_list_of, key, optional, written_as

if TYPE_CHECKING:
    from pydantic_core import core_schema

_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})
_FINGERPRINT_VERSION: Final = 1
_SENDS_NOTHING: Final = {
    *("name", "source", "run", "api_key_env", "api_key_file", "folder", "file", "lines", "digest")
}


_Part = TypeVar("_Part")
_Section: TypeAlias = Annotated[_Part, BeforeValidator(blank_is_empty)]
_OutsideFile: TypeAlias = Annotated[_Part, SkipJsonSchema(), Field(init=False)]
_Expanded: TypeAlias = Annotated[Text, AfterValidator(words.expanded), StringConstraints(min_length=1)]
_KeptNulls: TypeAlias = Annotated[
    NullWords, AfterValidator(lambda words, info: info.context.setdefault("nulls", words))
]
_CHANGES: Final = (
    AfterValidator(lambda changes, info: replace(changes, absent=info.context["absent"])),
    BeforeValidator(  # a word says what is compared
        lambda value: {"by": value} if isinstance(value, str) and not is_blank(value) else value,
        ChangesBy | Changes,
    ),
)
# YAML's null, as a file and as data have it, is the word.
_NULL_IS_A_WORD: Final = (
    BeforeValidator(lambda value: "null" if is_blank(value) else value),
    WithJsonSchema({"enum": ["fail", "null", None], "default": "fail"}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job: where rows come from, how they become identifications, and where those go.

    - name: Names the state folder; by default the file's name without its ending.
    - source: Files, folders, globs or URLs, relative to this file. ${VAR} is expanded.
    - csv: How CSV files are written.
    - sheet: Which sheet of a workbook is read; by default the first one that is visible.
    - excel: Where the rows of a workbook stand.
    - nulls: Texts that mean null in any text column, compared without the spaces around them.
    - missing: What it means that a file lacks a column which other files have: the run stops before anything
      is sent, or the column is null there. In NDJSON it is always null.
    - transform: A Python function from DataFrame to DataFrame.
    - identification: What Amplitude gets, with columns in place of values.
    - partial_families: `reset` allows to map a part of a family; Amplitude then resets the rest of it to
      null.
    - destination: Where identifications go.
    - absent: `unset` unsets the job's properties for users who were in the last export and left.
    - changes: What is compared with the last run: every property, users as a whole, or nothing (off).
    - api_key_env: The environment variable that holds the API key.
    - api_key_file: The file that holds the API key, relative to this file.
    - run: Options of the command run, with underscores; the command line and PROPSYNC_* variables win.
    """

    __pydantic_config__ = SECTION

    name: Annotated[str, optional(Annotated[Text, AfterValidator(words.job_name)], "")] = ""
    source: Annotated[tuple[_Expanded, ...], as_list_of(Text)] = key((), examples=["exports/users-*.parquet"])
    csv: _Section[CsvOptions] = CsvOptions()
    # For the file alone: `excel` has it.
    sheet: InitVar[Text | None] = key(examples=["Users"])
    excel: Annotated[_Section[ExcelOptions], AfterValidator(with_sheet)] = key(
        ExcelOptions(), validate_default=True
    )
    # For the file alone: every column spec has them in its own `nulls`, as specs are read after them.
    nulls: InitVar[_KeptNulls] = key((), examples=[["NULL", "\\N", "n/a", "-"]])
    missing: Annotated[Literal["fail", "null"], *_NULL_IS_A_WORD] = "fail"
    transform: words.FunctionName | None = key(examples=["package.module:function"])
    identification: IdentificationEntry = key(MISSING)
    partial_families: Literal["refuse", "reset"] = "refuse"
    destination: _Section[Destination] = Destination(amplitude.REGIONS["us"])
    # For the file alone: `changes` has it.
    absent: InitVar[Absent] = "keep"
    changes: Annotated[_Section[Changes], *_CHANGES] = key(
        Changes(), examples=["user", {"ignore": ["last_login_at"]}], validate_default=True
    )
    api_key_env: words.VariableName = DEFAULT_KEY_VARIABLE
    api_key_file: Text | None = None
    # Only what the file has, with None where it has nothing behind a key.
    run: Annotated[Mapping[str, Any], written_as(_Section[RunOptions])] = field(default_factory=dict)
    # The rest is not a part of the file. Relative sources are relative to `folder`. Messages call the file
    # `file`; `lines` has the 1-based line of each key by its path, such as `run.rate`, and of each column
    # spec by its path in Identification.specs. `digest` is of the file and of the variables that it names, ""
    # where there is no file.
    folder: _OutsideFile[Path] = Path()
    file: _OutsideFile[str] = field(default="job", compare=False)
    lines: _OutsideFile[Mapping[str, int]] = field(default_factory=dict, compare=False, repr=False)
    digest: _OutsideFile[str] = field(default="", compare=False, repr=False)

    @classmethod
    def load(cls, path: str | Path, *, environ: Mapping[str, str] | None = None) -> Job:
        """Read a job file; sources are relative to its folder, and `environ` has what `${VAR}` may name.

        Raises JobError with all faults of the file, and UsageError where there is no file to read.
        """
        given = os.environ if environ is None else environ
        text = read_file(Path(path))
        job = parse_job(text, name=str(path), folder=Path(path).parent, environ=given)
        return replace(job, digest=file_digest(text, path, given))

    @classmethod
    def of(
        cls,
        data: Mapping[str, object],
        *,
        folder: str | Path = ".",
        environ: Mapping[str, str] = _NO_VARIABLES,
    ) -> Job:
        """Make a job of the plain data that a job file would hold. Raises JobError; its faults have paths."""
        return _job(document_of(data), name="job", folder=Path(folder), environ=environ)

    def _repr_html_(self) -> str:
        """What a notebook shows: which column becomes what."""
        mapped = [(path, spec.column or "a constant") for path, spec in self.identification.specs()]
        return html_table(f"{self.name} to {self.destination.endpoint}", mapped)

    @property
    def file_options(self) -> FileOptions:
        """How the files of its source are written."""
        return FileOptions(csv=self.csv, excel=self.excel)

    @property
    def state_dir(self) -> Path:
        """The state folder if none is named elsewhere: that of the file, or one beside it."""
        return self.folder / (self.run.get("state_dir") or Path(".propsync", self.name))


@cache
def _adapter() -> TypeAdapter[Job]:
    return TypeAdapter(Job)


def parse_job(text: str, *, name: str, folder: Path, environ: Mapping[str, str] = _NO_VARIABLES) -> Job:
    """Make a job of the YAML or JSON text of a job file.

    `name` is what messages call the file; the job's name is its stem unless the text gives one. Raises
    JobError with all faults.
    """
    try:
        document = read_document(text)
    except UnreadableError as error:
        raise JobError(name, faults([error.problem], {})) from error
    return _job(document, name=name, folder=folder, environ=environ)


def _job(document: Document, *, name: str, folder: Path, environ: Mapping[str, str]) -> Job:
    data, problems, job, default = document.data, list(document.problems), None, ""
    try:
        default = words.job_name(PurePath(name).stem)
    except ValueError as error:
        message = f"the file's name can't name the job: a name {error}. Add a line `name: NAME`"
        problems += [] if "name" in data else [Problem((), message)]
    stated = default
    with suppress(KeyError, ValueError):  # where the rest of the file is wrong, its name may still be right
        stated = words.job_name(str(data["name"]))
    context = {"environ": environ, "sheet": data.get("sheet"), "absent": data.get("absent", "keep")}
    context["key_variable"] = str(data.get("api_key_env", DEFAULT_KEY_VARIABLE))
    try:
        job = _adapter().validate_python(data, context=context)
    except ValidationError as error:
        problems += validation_problems(error, job_schema)
    else:
        problems += _job_problems(job, data)
    if problems or job is None:
        raise JobError(name, faults(problems, document.lines), job=stated)
    lines = {".".join(map(str, path)): line for path, line in document.lines.items()}
    for path, _ in job.identification.located():
        if line := line_of(("identification", *path, "column"), document.lines):
            lines[".".join(map(str, path))] = line
    return replace(job, name=job.name or default, folder=folder, file=name, lines=lines)


def fingerprint(job: Job) -> str:
    """64 hex digits of a hash over everything that changes what is sent; of `transform` only its name."""
    return _digest(_meaning(job))


def key_fingerprints(job: Job) -> dict[str, str]:
    """A hash of each key of the job file that changes what is sent, by its path; 16 hex digits each."""
    content, part = _meaning(job), job.identification
    del content["version"], content["identification"], content["destination"]
    keys = {f"identification.{path}": spec for path, spec in part.specs()} | content
    keys |= {"identification $unset": part.unset, "identification $clearAll": part.clear_all}
    return {name: _digest(one)[:16] for name, one in keys.items() if one}


def _given(part: Any) -> dict[str, Any]:
    # Only what differs from its default, so that a new key keeps the fingerprints of old jobs.
    values = ((one, getattr(part, one.name)) for one in fields(part))
    return {one.name: value for one, value in values if value not in (one.default, {})}


def _digest(content: object) -> str:
    packed = orjson.dumps(content, _given, orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS)
    return hashlib.sha256(packed).hexdigest()


def _meaning(job: Job) -> dict[str, Any]:
    """The keys of a job that change what is sent; of the destination, where to and how."""
    content = {key: value for key, value in _given(job).items() if key not in _SENDS_NOTHING}
    where = Destination(job.destination.endpoint, job.destination.transport)
    return content | {"destination": where, "version": _FINGERPRINT_VERSION}


# --- what the keys of a job mean together ----------------------------------------------------------------

_NOT_LEFT: Final = "a user who isn't in an export of increments hasn't left"


def _job_problems(job: Job, data: Mapping[str, Data]) -> Iterator[Problem]:
    """What is wrong with the keys of a job together; each by itself is right."""
    for path, given in (((), data), (("destination",), data.get("destination"))):
        for env, file in (("api_key_env", "api_key_file"), ("secret_key_env", "secret_key_file")):
            if isinstance(given, dict) and env in given and file in given:
                yield Problem((*path, file), f"`{env}` and `{file}` exclude each other: give one of them")
    given, reset = data["identification"], job.partial_families == "reset"
    given = given if isinstance(given, dict) else {}
    rules = amplitude.TRANSPORT_RULES[job.destination.transport]
    for found in identification_problems(job.identification, given, rules, partial_families=reset):
        yield replace(found, path=("identification", *found.path))
    operators, changes = job.identification.operators, job.changes
    unrepeatable = ", ".join(sorted(name for name in operators if name in UNREPEATABLE))
    if changes.by == "user" and unrepeatable:
        message = (
            f"`changes: user` sends users whole or not at all, and {unrepeatable} must go for every row: use "
            "`changes: property`, or `changes: off`"
        )
        yield Problem(("changes", "by"), message)
    if changes.by == "off" and changes.ignore:
        yield Problem(("changes", "ignore"), "`ignore` does nothing with `off`: nothing is compared")
    reasons = (
        (changes.by == "off", "needs to know who was there before: not with `changes: off`"),
        (unrepeatable, f"can't be used with {unrepeatable}: {_NOT_LEFT}"),
        (not operators, "has nothing to unset: the job sets no user property"),
    )
    for holds, reason in reasons:
        if holds and changes.absent == "unset":
            yield Problem(("absent",), f"`absent: unset` {reason}")
    yield from _ignore_problems(job, data.get("changes"))


def _ignore_problems(job: Job, given: Data) -> Iterator[Problem]:
    operators_of: dict[str | None, set[str]] = {}
    for path, spec in job.identification.located():
        operators_of.setdefault(spec.column, set()).add(str(path[1]) if len(path) == 3 else "")
    names = given.get("ignore") if isinstance(given, dict) else ()
    for number, name in enumerate(map(str, names) if isinstance(names, list) else ()):
        path = ("changes", "ignore", number)
        if always := sorted(operators_of.get(name, set()) & UNREPEATABLE):
            yield Problem(path, f"`{clipped(name)}` can't be ignored: {always[-1]} goes for every row")
        elif name not in operators_of:
            near = did_you_mean(name, [column for column in operators_of if column is not None])
            yield Problem(path, f"`{clipped(name)}` is not a column that the job sends{near}")


# --- what editors know of a job file ---------------------------------------------------------------------


@cache
def job_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a job file."""
    schema = _adapter().json_schema(schema_generator=_EditorSchema)
    for section in (schema, *schema["$defs"].values()):
        # Behind a docstring's first paragraph, lines `- KEY: text` have the texts of the keys.
        section["description"], _, texts = section["description"].partition("\n\n")
        keys = section["properties"]
        for name, text in re.findall(r"^- (\S+): (.+(?:\n  .+)*)", texts, re.MULTILINE):
            if name in keys:
                keys[name] = dict(sorted({**keys[name], "description": " ".join(text.split())}.items()))
    return {"$schema": _EditorSchema.schema_dialect, **schema, "title": "propsync job"}


class _EditorSchema(GenerateJsonSchema):
    """Leaves out what only repeats the keys' names, and the defaults that mean an absent key."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if "$ref" in made or not isinstance(made.get("default"), str | int) or made["default"] == "":
            made.pop("default", None)
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
