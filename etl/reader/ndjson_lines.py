"""The lines of NDJSON: blocks of them, the object in each, and what a line looks like that holds none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from etl.arrow.exact_json import has_digits, load
from etl.errors import SourceError
from etl.reader.json_values import MisfitError, json_text
from etl.reader.pieces import shown

Row = dict[str, Any]

_MARK: Final = b"\xef\xbb\xbf"
_BLANK: Final = b" \t\r\n"
_LONG: Final = 16  # digits, as many as a whole number has at least that a float doesn't hold
_DEEP: Final = 200
_HINT: Final = "NDJSON has one object a line; write it so, for example with: jq -c"


class Block(NamedTuple):
    """Whole lines. `lines` counts those that aren't blank; `neat` says that each begins and ends in braces.

    `starts` (int32, shape (lines,)) is where they begin, if they are neat.
    """

    data: bytes
    lines: int
    neat: bool
    starts: np.ndarray

    @property
    def long(self) -> bool:
        """Whether there may be whole numbers in it that a float doesn't hold."""
        return has_digits(self.data, _LONG)

    def originals(self) -> pa.BinaryArray:
        """The lines of a neat block as they stand, with their ends, without a copy."""
        ends = np.append(self.starts, np.int32(len(self.data)))
        return pa.Array.from_buffers(
            pa.binary(), self.lines, [None, pa.py_buffer(ends), pa.py_buffer(self.data)]
        )


class Line(NamedTuple):
    """What stands in a line that isn't blank: an object, or why there is none.

    `plain` says that all of it can be used: no text that is none, no number beyond every float. `origin` is
    that of a reject (`model.Reject`).
    """

    text: bytes
    row: Row | None
    reason: str = ""
    plain: bool = True
    origin: str = ""


def block_of(data: bytes) -> Block:
    """Cut whole lines."""
    codes = np.frombuffer(data, dtype=np.uint8)
    starts = np.concatenate(([0], np.flatnonzero(codes == ord("\n")) + 1))
    starts = starts[starts < len(codes)].astype(np.int32)
    if _neat(codes, starts):
        return Block(data, len(starts), neat=True, starts=starts)
    return Block(data, sum(1 for line in data.split(b"\n") if line.strip()), neat=False, starts=starts[:0])


def _neat(codes: np.ndarray, starts: np.ndarray) -> bool:
    """Whether every line begins with a brace and ends with one, without which it may go on in the next."""
    if not len(starts) or not (codes[starts] == ord("{")).all():
        return False
    ends = np.append(starts[1:] - 1, len(codes) - (codes[-1] == ord("\n")))
    last = ends - 1 - (codes[np.maximum(ends - 1, 0)] == ord("\r"))
    return bool((codes[np.maximum(last, 0)] == ord("}")).all())


def texts_of(block: Block) -> Iterator[bytes]:
    """The lines that aren't blank."""
    return (line for line in block.data.split(b"\n") if line.strip())


def read_line(text: bytes, *, long: bool = True) -> Line:
    """The object in a line. Of a key that is there twice, the last value counts.

    `long` False says that no number in it has as many digits as 64 bits may have.
    """
    row: object = None
    try:
        row = orjson.loads(text)
        if not long and isinstance(row, dict):
            return Line(text, row)
        plain = True
    except orjson.JSONDecodeError:
        plain = False
    try:
        row = load(text)
    except RecursionError:
        return Line(text, None, "the value is nested too deep")
    except ValueError:
        pass
    return Line(text, row, plain=plain) if isinstance(row, dict) else Line(text, None, not_json(text))


def not_json(text: bytes) -> str:
    """What a line without an object looks like."""
    line = text.decode(errors="backslashreplace").strip()
    quoted = shown(line)
    with suppress(ValueError, RecursionError):
        found, end = json.JSONDecoder().raw_decode(line)
        rest = line[end:].lstrip()
        if isinstance(found, dict) and rest.lstrip(", \t\ufeff").startswith("{"):
            return f"{quoted} holds two objects; write one object a line"
        if isinstance(found, dict) and rest == ",":
            return f"{quoted} ends with a comma, as in a JSON list; write one object a line without commas"
        if isinstance(found, list) and not rest:
            return f"{quoted} is a JSON list, and not a JSON object"
    return f"{quoted} is not a JSON object"


def picked(line: Line, columns: Sequence[str]) -> list[object]:
    """The line's values of these columns, null where it has none; MisfitError where one can't be text."""
    row = line.row or {}
    values = [row.get(name) for name in columns]
    if not line.plain or line.text.count(b"[") + line.text.count(b"{") > _DEEP:
        for name, value in zip(columns, values, strict=True):
            _check_text(name, value)
    return values


def _check_text(name: str, value: object) -> None:
    try:
        json_text(value).encode()
    except UnicodeEncodeError as error:
        bad = error.object.encode("utf-8", "backslashreplace").decode()
        raise MisfitError(f"column {name}: {shown(bad)} is not UTF-8 text") from None
    except MisfitError as misfit:
        raise MisfitError(f"column {name}: {misfit}") from None


def refuse_other_json(name: str, head: bytes) -> None:
    """Raise SourceError where a file begins like JSON that isn't one object a line."""
    text = head.removeprefix(_MARK).lstrip(_BLANK)
    line = text.partition(b"\n")[0].strip()
    if text[:1] == b"[" and _is_list(line):
        raise SourceError(f"{name} is one JSON list, not one object a line", hint=f"{_HINT} '.[]'")
    if text[:1] == b"{" and not _is_object(line) and _spans_lines(text):
        raise SourceError(f"{name} is JSON with its objects over several lines", hint=f"{_HINT} .")


def _is_list(line: bytes) -> bool:
    """Whether a line begins a list of objects that fills the file."""
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(line)
        return isinstance(found, list) and any(isinstance(element, dict) for element in found)
    return line == b"[" or line[1:].lstrip(_BLANK)[:1] == b"{"


def _is_object(line: bytes) -> bool:
    with suppress(ValueError, RecursionError):
        return isinstance(load(line), dict)
    return False


def _spans_lines(text: bytes) -> bool:
    """Whether the first object ends in a later line, or looks so as far as can be seen."""
    decoded = text.decode(errors="replace")
    try:
        end = json.JSONDecoder().raw_decode(decoded)[1]
    except (ValueError, RecursionError):
        return re.match(r'\{\s*\r?\n\s+"(?:[^"\\\n]|\\.)*"\s*:', decoded) is not None
    return "\n" in decoded[:end]
