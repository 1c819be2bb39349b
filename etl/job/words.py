"""How keys and single words of a job file must be written: annotations of keys, and checks of words.

A check returns the word as it is kept, or raises ValueError with the end of a sentence about the key.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    Strict,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    with_config,
)
from typing_extensions import TypedDict

from .. import amplitude
from .problems import clipped, did_you_mean
from .scalars import Data, resolved

_MAX_SKIPPED: Final = 10_000
MAX_NAME: Final = 60  # characters, so that no file system finds the folder's name too long
# What strptime of Python and of pandas both read, each by itself and alike on every machine: so without weeks
# (%U %V %W, which need partners) and without the locale's own formats (%c %x %X).
_DATE_DIRECTIVES: Final = frozenset("aAbBdfHIjmMpSyYzZ%")
_KNOWN_ENCODINGS: Final = ("utf-8", "utf-16", "latin-1", "cp1252", "iso8859-15", "shift_jis", "gb18030")

_NAME = re.compile(r"\w[\w.-]*")
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"
# What such a variable holds belongs only where the key is asked for: paths and URLs are shown.
_SECRET_NAME = re.compile(r"(?i)(^|_)(key|secret|token)$|(apikey|password|passwd)$")
_SHORTEST_SECRET: Final = 8
_REFERENCE = re.compile(r"\$\$|\$\{([^}]*)(\}?)")

# Of every section of a job file.
SECTION: Final = ConfigDict(extra="forbid", hide_input_in_errors=True)


# --- what declares a key ---------------------------------------------------------------------------------

Text: TypeAlias = Annotated[str, StringConstraints(min_length=1)]
_NULL_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}
Flag: TypeAlias = Annotated[bool, Strict(), BeforeValidator(resolved, json_schema_input_type=bool)]


def key(default: object = None, **more: object) -> Any:
    """A key of a section; `more` is for pydantic's Field. The docstring of the class says what it means."""
    return field(default=default, metadata=more)


def keyed_section(name: str, doc: str, keys: Mapping[str, Any], **config: Any) -> Any:
    """The type of a section of the file by the type of each key; it is read as a dict.

    `doc` is what the docstring of a class would be.
    """
    section = TypedDict(name, {key: type_ | None for key, type_ in keys.items()}, total=False)  # type: ignore[misc]
    section.__doc__ = doc
    return with_config(ConfigDict(**SECTION, **config))(section)  # type: ignore[typeddict-item]


def written_as(file_type: Any) -> GetPydanticSchema:
    """Annotates a field that a file writes as `file_type`; that type's validators make the field's value."""
    return GetPydanticSchema(lambda _, handler: handler.generate_schema(file_type))


def optional(file_type: Any, absent: object) -> GetPydanticSchema:
    """Annotates a field that a file writes as `file_type`, and that is `absent` where it is null."""
    given = AfterValidator(lambda value: absent if value is None else value)
    return written_as(Annotated[file_type | None, given])


def as_list_of(item: Any) -> BeforeValidator:
    """Annotates a list that a file may write as its one item, a text or a mapping."""
    return BeforeValidator(
        lambda value: [value] if isinstance(value, str | dict) else value, item | list[item]
    )


def without_repeats(words: Sequence[str]) -> tuple[str, ...]:
    """A list in which no word stands twice."""
    if twice := [word for place, word in enumerate(words) if word in words[:place]]:
        raise ValueError(f"has `{clipped(twice[0])}` twice")
    return tuple(words)


# The spaces around them don't count.
NullWords: TypeAlias = Annotated[
    list[Annotated[str, AfterValidator(str.strip), WithJsonSchema(_NULL_SCALAR)]],
    Field(min_length=1),
    AfterValidator(without_repeats),
    as_list_of(str),
    BeforeValidator(lambda value: [] if value == "" else value, str | list[str]),
]


def matching(pattern: str, fault: str) -> AfterValidator:
    """Annotates text that must match a pattern; `fault` is what a message says of other text."""

    def checked(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(fault)
        return text

    return AfterValidator(checked)


# The name of an environment variable that holds a key; never shown, in case it is the key itself.
VariableName: TypeAlias = Annotated[
    str,
    matching(
        r"(?s)(?![0-9a-fA-F]{32,}\Z).*",
        "looks like a key; give the name of the environment variable that holds it",
    ),
    matching(_VARIABLE, "must be the name of an environment variable: letters, digits and `_`"),
]
_IDENTIFIERS: Final = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
FunctionName: TypeAlias = Annotated[
    str,
    matching(f"{_IDENTIFIERS}:{_IDENTIFIERS}", "must name a Python function as `package.module:function`"),
]
# A sign that may stand between digits: no letter, no digit, no control character.
_BETWEEN_DIGITS: Final = r"(?![^\W_])[^+\-\x00-\x1f\x7f-\x9f]"
QuoteSign: TypeAlias = Annotated[str, matching("[!-~]?", 'must be one character, or "" for none')]
EscapeSign: TypeAlias = Annotated[
    str, matching(r"(?![^\W_])[!-~]", r'must be one character such as "\\" (a backslash in double quotes)')
]
DecimalSign: TypeAlias = Annotated[str, matching(rf"(?!\s){_BETWEEN_DIGITS}", 'must be one sign such as ","')]
ThousandsSign: TypeAlias = Annotated[str, matching(_BETWEEN_DIGITS, 'must be one sign such as "." or " "')]
AroundNumbers: TypeAlias = Annotated[
    str,
    matching(
        r"(?s)[^\d+-]+",
        "must be characters such as `€`, and neither digits nor `+` nor `-`: they make the number",
    ),
]


# --- what checks a word ----------------------------------------------------------------------------------


def job_name(text: str) -> str:
    """The name of a job, which names its state folder."""
    name = unicodedata.normalize("NFC", text)
    if not _NAME.fullmatch(name):
        raise ValueError("may have letters, digits, `_`, `-` and `.`, and begins with a letter, digit or `_`")
    if len(name) > MAX_NAME:
        raise ValueError(f"may have at most {MAX_NAME} characters")
    return name


def delimiter(text: str) -> str:
    r"""One character; a tab may be written `tab` or `\t`, and others by their code, as `\x01`."""
    if text in {"tab", "\\t"}:
        return "\t"
    if code := re.fullmatch(r"\\x([0-9a-fA-F]{2})", text):
        text = chr(int(code[1], 16))
    if len(text) != 1 or (text.isascii() and text.isalnum()) or text in "\r\n\0\x1a":
        raise ValueError('must be one character such as ";" or "|" (in quotes), or `tab`')
    return text


def csv_header(value: Data) -> tuple[str, ...] | Literal[False] | None:
    """The names of columns, or False for a file without a header."""
    word = resolved(value)
    if word is False or word is None:
        return word
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a list of the columns' names, or false where the file has no header")
    if "" in value:
        raise ValueError("has a column without a name")
    return without_repeats(list(map(str, value)))


def line_count(value: Data) -> int:
    """A number of lines to skip."""
    number = resolved(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MAX_SKIPPED:
        raise ValueError(f"must be a number of lines, at most {_MAX_SKIPPED:,}")
    return number


def encoding(text: str) -> str:
    """A text encoding that Python knows, by the name Python gives it."""
    try:
        "a".encode(text)
    except (LookupError, ValueError) as error:
        near = did_you_mean(text, _KNOWN_ENCODINGS)
        fault = f"is `{clipped(text)}`, which is not a text encoding that Python knows{near}"
        raise ValueError(fault) from error
    return codecs.lookup(text).name


def date_format(text: str) -> str:
    """A format of strptime directives, with a year among them."""
    directives = [match[1] for match in re.finditer(r"%(.?)", text, re.DOTALL)]
    for directive in directives:
        if directive not in _DATE_DIRECTIVES:
            fault = f"has `%{directive}`, which can't be read; a date such as 31/12/2024 is `%d/%m/%Y`"
            raise ValueError(fault)
        if directive != "%" and directives.count(directive) > 1:
            raise ValueError(f"has `%{directive}` twice")
    if not {"y", "Y"} & set(directives):
        raise ValueError("must have the year in it, as `%Y` or `%y`")
    return text


def time_zone(text: str) -> str:
    """A time zone of the IANA database by its name."""
    try:
        zoneinfo.ZoneInfo(text)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        known = sorted(zoneinfo.available_timezones())
        same = [name for name in known if name.lower() == text.lower()]
        near = f"; did you mean `{same[0]}`?" if same else did_you_mean(text, known)
        remedy = f"use a name such as Europe/Berlin or UTC{near}"
        raise ValueError(f"is `{clipped(text)}`, which is not a time zone; {remedy}") from error
    return text


def endpoint(text: str) -> str:
    """`us`, `eu` or a base URL, as a base URL without a slash at its end.

    Errors never show the URL, as it may hold secrets.
    """
    if text in amplitude.REGIONS:
        return amplitude.REGIONS[text]
    if not re.match(r"(?i)https?://", text):
        near = did_you_mean(text, amplitude.REGIONS) if len(text) <= 4 else ""
        raise ValueError(f"must be `us`, `eu` or a base URL that begins with http:// or https://{near}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("is not a base URL: its host or port can't be read") from error
    if not host or port == 0 or re.search(r"[\s\x00-\x1f\x7f\\]", text):
        raise ValueError("is not a base URL: its host or port is missing, or it has blanks in it")
    if "@" in parts.netloc:
        raise ValueError("must be a base URL without a user or password")
    if "?" in text or "#" in text:
        raise ValueError("must be a base URL without a query (`?`) or fragment (`#`)")
    return text.rstrip("/")


def names_secret(name: str) -> bool:
    """Whether a variable of this name holds a key, a token or a password."""
    return _SECRET_NAME.search(name) is not None


def expanded(text: str, info: ValidationInfo) -> str:
    """The text with the value of each variable for its `${VAR}` and a dollar sign for `$$`.

    A variable that holds a secret is refused: that of the job's key, any that has the key in it, and any that
    has such a name.
    """
    context: dict[str, Any] = info.context  # type: ignore[assignment]
    environ, key_variable = context["environ"], context["key_variable"]

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match[1]
        if not match[2]:
            raise ValueError("has `${` without a `}`; write `$$` for a dollar sign")
        if not re.fullmatch(_VARIABLE, name):
            raise ValueError(f"has `${{{clipped(name)}}}`, which is not a name of an environment variable")
        key = environ.get(key_variable, "").strip()
        holds_key = len(key) >= _SHORTEST_SECRET and key in environ.get(name, "")
        if name == key_variable or names_secret(name) or holds_key:
            raise ValueError(
                f"has `${{{clipped(name)}}}`, which holds a secret, and this value is shown in messages and "
                "kept in files; use a variable of another name, without a key, token or password in it"
            )
        if name not in environ:
            raise ValueError(f"needs the environment variable {clipped(name)}, which is not set")
        return str(environ[name])

    return _REFERENCE.sub(value, text)
