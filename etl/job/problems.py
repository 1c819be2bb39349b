"""What is wrong with a job file or with the columns of its source, where, and what to do.

Problems have a path in the file, faults a line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from unicodedata import normalize

from ..errors import Fault, JobError, SourceError
from ..text import one_line
from .scalars import is_blank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from .spec import Job

KeyPath: TypeAlias = "tuple[str | int, ...]"

DEFAULT_KEY_VARIABLE: Final = "AMPLITUDE_API_KEY"
_MAX_COMPARED: Final = 80  # characters; a longer word is not a misspelling of a known one
_MIN_BEGINNING: Final = 3  # characters of a word that was cut short
_MAX_SHOWN: Final = 60
# Of a file with more problems nobody reads the suggestions, and they take time.
_MAX_SUGGESTIONS: Final = 100
_SECRET: Final = re.compile("apikey(?!env$|file$)|secret|password|token|writekey|^key$")
_NO_SECRETS: Final = (
    ": secrets can't stand in a job file. Put the API key into the environment variable "
    f"{DEFAULT_KEY_VARIABLE}, or name another variable with `api_key_env`, or a file with `api_key_file`"
)
_TYPE_MESSAGES: Final = {
    "string_type": "must be text",
    "string_too_short": "is empty",
    "dataclass_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "is empty; fill it in, or take it out",
    "bool_type": "must be true or false",
    "missing": "is missing",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong at a path of the job file; `line` is given if the path alone doesn't lead to it."""

    path: KeyPath
    message: str
    line: int | None = None


class ProblemsError(ValueError):
    """Raised by a validator that found several problems, with paths relative to what it validates."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` is probably a misspelling of, whatever its case, or None."""
    if len(word) > _MAX_COMPARED:
        return None
    folded = normalize("NFKC", word).casefold()
    by_folded = {normalize("NFKC", name).casefold(): name for name in known}
    found = get_close_matches(folded, by_folded, n=1, cutoff=0.7)
    if not found and len(word) >= _MIN_BEGINNING:
        found = [name for name in by_folded if name.startswith(folded)]
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message: "; did you mean `plan`?", or nothing.

    A name that looks the same, as with a no-break space, is shown with escapes, as the job file may have it.
    """
    name = nearest(word, known)
    if name is None:
        return ""
    if name != word and normalize("NFKC", name) == normalize("NFKC", word):
        return f"; did you mean {json.dumps(name)}, which only looks the same?"
    return f"; did you mean `{name}`?"


def clipped(text: str) -> str:
    """Foreign text as one printable line of at most 60 characters."""
    line = one_line(text)
    return line if len(line) <= _MAX_SHOWN else f"{line[: _MAX_SHOWN - 3]}..."


def line_of(path: KeyPath, lines: Mapping[KeyPath, int]) -> int | None:
    """The line of a path, or else of the nearest mapping or list around it.

    `$set` may be left out in a file, so its properties are looked up without it too.
    """
    for stop in range(len(path), 0, -1):
        part = path[:stop]
        line = lines.get(part) or lines.get(tuple(key for key in part if key != "$set"))
        if line is not None:
            return line
    return None


def faults(problems: Iterable[Problem], lines: Mapping[KeyPath, int]) -> list[Fault]:
    """The faults to show, each once. Without lines (a job from a dict) the message has the path."""
    found: dict[Fault, None] = {}
    for problem in problems:
        if lines or not problem.path:
            fault = Fault(problem.message, problem.line or line_of(problem.path, lines))
        else:
            fault = Fault(f"{clipped('.'.join(map(str, problem.path)))}: {problem.message}")
        found[fault] = None
    return list(found)


def validation_problems(error: ValidationError, schema: Callable[[], dict[str, Any]]) -> Iterator[Problem]:
    """All problems of a validation, as sentences; `schema` makes the JSON Schema, which knows all keys."""
    for number, details in enumerate(error.errors(include_url=False)):
        path = tuple(key for key in details["loc"] if key != "[key]")
        found = details.get("ctx", {}).get("error")
        if isinstance(found, ProblemsError):
            for one in found.problems:
                place = (*path, *one.path)
                yield Problem(place, _about(place, one.message))
        elif details["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            key = str(path[-1])
            if len(path) <= 2 and _SECRET.search(re.sub(r"[^a-z]", "", key.lower())):
                yield Problem(path, f"`{clipped(key)}`{_NO_SECRETS}")
            else:
                end = _unknown_key_remedy(path, schema()) if number < _MAX_SUGGESTIONS else ""
                yield Problem(path, f"unknown key `{clipped(key)}`{end}")
        else:
            yield Problem(path[:-1] if details["type"] == "missing" else path, _about(path, _end(details)))


def _unknown_key_remedy(path: KeyPath, schema: dict[str, Any]) -> str:
    """The end of a message about an unknown key: where it belongs, or which key was probably meant."""
    word = str(path[-1])
    if len(path) <= 2:
        if word in schema["properties"]:
            return "; it belongs at the top level"
        for section, part in schema["properties"].items():
            # Under `identification` it is rather the name of a property, such as `plan`.
            known = any(word in one.get("properties", ()) for one in _alternatives(part, schema))
            if known and (section, path[0]) != ("run", "identification"):
                return f"; it belongs under `{section}`"
    owner = schema
    for key in path[:-1]:
        parts = _alternatives(owner, schema)
        if isinstance(key, int):
            owner = next((one["items"] for one in parts if "items" in one), owner)
        else:
            named = (one["properties"][key] for one in parts if key in one.get("properties", ()))
            unnamed = (one["additionalProperties"] for one in parts if one.get("additionalProperties"))
            owner = next(chain(named, unnamed), {})
    # Steps without an argument are words in place of a mapping.
    parts = _alternatives(owner, schema)
    words = [key for kind in ("properties", "enum") for one in parts for key in one.get(kind, ())]
    if path[:-1] == ("identification",) and nearest(word, words) is None:
        return "; properties belong under `user_properties`"
    return did_you_mean(word, words)


def _alternatives(part: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas that a schema refers to or has the choice of, itself among them."""
    found = [part]
    if "$ref" in part:
        found += _alternatives(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    for one in part.get("anyOf", ()):
        found += _alternatives(one, schema)
    return found


def _about(path: KeyPath, end: str) -> str:
    """The sentence that ends so, about what stands at a path; an item of a list goes by the list's name."""
    # `changes: user` is short for `changes: {by: user}`.
    keys = path[:1] if path == ("changes", "by") else path
    name = next((key for key in reversed(keys) if isinstance(key, str)), "job")
    return end if end.startswith("`") else f"`{clipped(name)}` {end}"


def _end(details: ErrorDetails) -> str:
    type_, given = details["type"], details["input"]
    if type_ == "value_error":
        return str(details["ctx"]["error"])
    place = details["loc"][-1] if details["loc"] else ""
    if type_ == "string_too_short" and isinstance(place, int) and place > 0:  # one of several
        return "has an empty part"
    if type_ != "literal_error":
        return _TYPE_MESSAGES.get(type_, details["msg"])
    choices = re.findall(r"'([^']*)'", details["ctx"]["expected"])
    *others, last = [f"`{choice}`" for choice in choices]
    allowed = f"must be {', '.join(others)} or {last}" if others else f"must be {last}"
    if is_blank(given):
        return f"is empty; it {allowed}"
    if not isinstance(given, str):
        return allowed
    return f"is `{clipped(given)}`; it {allowed}{did_you_mean(given, choices)}"


# --- the columns of the source ---------------------------------------------------------------------------

_MAX_LISTED: Final = 10
_MAX_UNKNOWN: Final = 20  # when more are wrong it is the wrong source, and near names take time to find


def check_columns(job: Job, columns: Sequence[str], remark: str = "") -> None:
    """Raise JobError if the job names columns that aren't among `columns`, those of the source.

    `remark` is what is odd about the source.
    """
    lacks = lacking(job, columns)
    # Names in one, as where another sign than the delimiter stands between them.
    in_one = len(columns) == 1 < len(lacks) and all(name in columns[0] for name in lacks)
    compared = () if in_one or len(lacks) > _MAX_UNKNOWN else columns
    near = {name: did_you_mean(name, compared) for name in lacks}
    found = []
    for path, spec in job.identification.specs():
        if spec.column in near:
            column = f"`{clipped(spec.column)}` (for `{clipped(path)}`){near[spec.column]}"
            found.append(Fault(f"the source has no column {column}", job.lines.get(path)))
    if not found:
        return
    listed = "the source has no columns"
    if columns:
        names = ", ".join(clipped(name) for name in columns[:_MAX_LISTED])
        listed = f"the source has the columns {names}{', ...' if len(columns) > _MAX_LISTED else ''}"
    if len(columns) == 1:
        listed = f"the source has one column, `{clipped(columns[0])}`"
        if in_one:
            listed += ": if several names stand in it, say what is between them with `csv: {delimiter: SIGN}`"
    raise JobError(job.file, found, hint=f"{remark}; {listed}" if remark else listed)


def check_repeated(job: Job, file: str, repeated: Mapping[str, Sequence[int]]) -> None:
    """Raise JobError if the job names a column that a file has several times.

    `repeated` has the places (from 1) of such columns in the file.
    """
    found = []
    for path, spec in job.identification.specs():
        places = repeated.get(spec.column or "")
        if places:
            where = f"{', '.join(map(str, places[:-1]))} and {places[-1]}"
            message = f"{file} has `{clipped(spec.column or '')}` in columns {where} (for `{clipped(path)}`)"
            found.append(Fault(message, job.lines.get(path)))
    if found:
        hint = (
            "rename all but one, or name the columns with `csv: {header: [NAME, ...], skip_rows: 1}`; in a "
            "workbook with `excel:` in place of `csv:`"
        )
        raise JobError(job.file, found, hint=hint)


def lacking(job: Job, columns: Sequence[str]) -> list[str]:
    """The columns that the job names and that aren't among `columns`."""
    known = frozenset(columns)
    return [column for column in job.identification.columns() if column not in known]


def missing_columns(file: str, missing: Sequence[str], columns: Sequence[str]) -> SourceError:
    """The error that a file lacks columns which other files of the source have; it has `columns`."""
    several = len(missing) > 1
    names = ", ".join(f"`{clipped(name)}`" for name in missing[:_MAX_LISTED])
    names += ", ..." if len(missing) > _MAX_LISTED else ""
    near = "" if several else did_you_mean(missing[0], columns)
    noun, them, are = ("columns", "them", "they are") if several else ("column", "it", "it is")
    return SourceError(
        f"{file} has no {noun} {names}, which other files of the source have{near}",
        hint=f"export the file with {them}, or add `missing: null` to the job file: {are} null in its rows",
    )
