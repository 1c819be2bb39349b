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
    """How one file is written: delimiter and quote are one ASCII character each; `quote` "" means none."""

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
        """Where the last whole record probably ends, 0 if nowhere: a line end with quotes in pairs before it.

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
        mark = re.escape(self.quote)
        found = re.match(f"{mark}((?:[^{mark}]++|{mark}{mark})*+){mark}?", value)
        end = found.end() if found else len(value)
        body = found[1] if found else value
        return body.replace(self.quote * 2, self.quote) + value[end:]


def first_record(data: bytes, quote: str, delimiter: str | None, *, final: bool) -> tuple[int, int] | None:
    """Where the first record that isn't blank begins and ends, without line end; None if `data` is too short.

    This is the header. `delimiter` None is one not known yet; `final` says that the file ends with `data`.
    """
    begin = _blank_end(data)
    found = re.compile(_header_pattern(quote, delimiter)).match(data, begin)
    end = found.end() if found else begin
    return None if end == len(data) and not final else (begin, end)


def line_end(data: bytes, at: int) -> int:
    """The position after the line end that stands at `at`."""
    found = _LINE_END.match(data, at)
    return found.end() if found else at


def likeliest(header: str, quote: str) -> str:
    """The delimiter that stands most often in the header outside quotes; a comma where there is none."""
    bare = (
        re.sub(f"{re.escape(quote)}[^{re.escape(quote)}]*{re.escape(quote)}", "", header) if quote else header
    )
    return max(DELIMITERS, key=bare.count)


def _blank_end(data: bytes) -> int:
    found = _BLANK_LINES.match(data)
    return found.end() if found else 0


def _header_pattern(quote: str, delimiter: str | None) -> bytes:
    """A quote opens a name only at the line's begin or after a character that may be the delimiter."""
    if not quote:
        return rb"[^\r\n]*+"
    mark, ends = re.escape(quote.encode()), re.escape((delimiter or "".join(DELIMITERS)).encode())
    quoted = mark + rb"(?:[^" + mark + rb"]++|" + mark + mark + rb")*+(?:" + mark + rb"|\Z)"
    return rb"(?:" + quoted + rb")?+(?:[^\r\n" + ends + rb"]++|[" + ends + rb"](?:" + quoted + rb")?+)*+"


def _last_line_end(data: bytes, before: int) -> int:
    """The position after the last line end that stands before `before`."""
    if before <= 0:
        return 0
    end = data.rfind(b"\n", 0, before) + 1
    return end or data.rfind(b"\r", 0, before) + 1
