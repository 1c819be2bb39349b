"""Where CSV records and fields begin and end. Knows the text only: no files, no columns.

A quote opens a quoted field only where the field begins; anywhere else it is a character like any other.
A record ends at LF, CRLF or a lone CR outside quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

DELIMITERS: Final = (",", ";", "\t", "|")
_BLANK_LINES: Final = re.compile(rb"[\r\n]*")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True)
class Grammar:
    """How one file is written: its delimiter and its quote, one ASCII character each; `quote` "" means none."""

    delimiter: str
    quote: str
    _fields: re.Pattern[bytes] = field(init=False, repr=False)
    _records: re.Pattern[bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        delimiter, quote = (re.escape(character.encode()) for character in (self.delimiter, self.quote))
        plain = rb"[^\r\n" + delimiter + rb"]*+"
        value = plain
        if quote:
            body = rb"(?:[^" + quote + rb"]++|" + quote + quote + rb")*+"
            value = rb"(?:" + quote + body + quote + plain + rb"|(?!" + quote + rb")" + plain + rb")"
        record = rb"(?:" + value + delimiter + rb")*+" + value + rb"(?:\r\n|\r|\n)"
        unclosed = quote + rb"(?s:.*)" if quote else rb"(?!)"
        fields = rb"(" + value + rb"|" + unclosed + rb")(?:" + delimiter + rb"|(\Z))"
        object.__setattr__(self, "_fields", re.compile(fields))
        object.__setattr__(self, "_records", re.compile(rb"(?:" + record + rb")*+"))

    def likely_end(self, data: bytes) -> int:
        """Where the last whole record probably ends, 0 if nowhere: a line end before which quotes come in pairs.

        Cheap, and wrong where quotes stand inside unquoted fields; whoever parses has to check it.
        """
        end = _last_line_end(data, len(data))
        if end and self.quote and data.count(self.quote.encode(), 0, end) % 2:
            end = _last_line_end(data, data.rfind(self.quote.encode(), 0, end))
        return end

    def exact_end(self, data: bytes) -> int:
        """Where the last whole record ends, 0 if there is none; `data` begins where a record does."""
        found = self._records.match(data)
        return found.end() if found else 0

    def split(self, record: bytes) -> list[str]:
        """The fields of one record without its line end; the last may lack its closing quote."""
        values: list[str] = []
        for found in self._fields.finditer(record):
            values.append(self._unquoted(found[1].decode("utf-8", "backslashreplace")))
            if found[2] is not None:
                break
        return values

    def _unquoted(self, value: str) -> str:
        if not self.quote or not value.startswith(self.quote):
            return value
        inner, closing, rest = value[1:].replace(self.quote * 2, "\0\0").partition(self.quote)
        return (inner + (rest if closing else "")).replace("\0\0", self.quote)


def first_record(data: bytes, quote: str, *, final: bool) -> tuple[int, int] | None:
    """Where the first record that isn't blank begins and ends (its line end excluded), None if that's not in `data`.

    Used for the header, before the delimiter is known; `final` says that the file ends with `data`.
    """
    begin = _blank_end(data)
    pattern = re.compile(_header_pattern(quote))
    found = pattern.match(data, begin)
    end = found.end() if found else begin
    if end == len(data) and not final:
        return None
    return begin, end


def line_end(data: bytes, at: int) -> int:
    """The position after the line end that stands at `at`."""
    found = _LINE_END.match(data, at)
    return found.end() if found else at


def likeliest(header: str, quote: str) -> str:
    """The delimiter that stands most often in the header outside quotes; a comma where there is none."""
    bare = re.sub(f"{re.escape(quote)}[^{re.escape(quote)}]*{re.escape(quote)}", "", header) if quote else header
    return max(DELIMITERS, key=bare.count)


def _blank_end(data: bytes) -> int:
    found = _BLANK_LINES.match(data)
    return found.end() if found else 0


def _header_pattern(quote: str) -> bytes:
    """A quote opens a name only at the line's begin or after a character that may be the delimiter."""
    if not quote:
        return rb"[^\r\n]*+"
    mark = re.escape(quote.encode())
    quoted = mark + rb"(?:[^" + mark + rb"]++|" + mark + mark + rb")*+(?:" + mark + rb"|\Z)"
    return rb"(?:" + quoted + rb")?+(?:[^\r\n,;\t|]++|[,;\t|](?:" + quoted + rb")?+)*+"


def _last_line_end(data: bytes, before: int) -> int:
    """The position after the last line end that stands before `before`."""
    if before <= 0:
        return 0
    end = data.rfind(b"\n", 0, before) + 1
    return end or data.rfind(b"\r", 0, before) + 1
