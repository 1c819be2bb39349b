"""Where CSV records and fields begin and end. Knows the text only: no files, no columns.

A quote opens a quoted field only where the field begins; elsewhere in a plain field it is a character like
any other. The quote that closes a field is followed by the delimiter or a line end: other text there shows
that the quotes are not what the file meant. A record ends at LF, CRLF or a lone CR outside quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

DELIMITERS: Final = (",", ";", "\t", "|")
_BLANK_LINES: Final = re.compile(rb"[\r\n]*")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_LINE: Final = re.compile(rb"[^\r\n]*+")
_CR, _LF = ord("\r"), ord("\n")

QuoteFault: TypeAlias = Literal["stray", "unclosed"]


class BadLine(NamedTuple):
    """The first line of a record whose quotes are wrong, `data[begin:end]`, without its line end.

    `stray`: text follows a closing quote; `unclosed`: no quote closes the field. The record, taken at its
    word, would have spanned `lines` lines: to the stray text, or to the end of what may be looked at.
    """

    begin: int
    end: int
    fault: QuoteFault
    lines: int


class Cut(NamedTuple):
    """Whole records and bad lines end at `end`, which is 0 where none is in sight yet."""

    end: int
    bad: tuple[BadLine, ...] = ()


@dataclass(frozen=True)
class Grammar:
    """How one file is written: delimiter and quote are one ASCII character each; `quote` "" means none."""

    delimiter: str
    quote: str
    _fields: re.Pattern[bytes] = field(init=False, repr=False)
    _records: re.Pattern[bytes] = field(init=False, repr=False)
    _sound: re.Pattern[bytes] = field(init=False, repr=False)
    _values: re.Pattern[bytes] = field(init=False, repr=False)
    _quoted: re.Pattern[bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        delimiter, quote = (re.escape(character.encode()) for character in (self.delimiter, self.quote))
        plain = rb"[^\r\n" + delimiter + rb"]*+"
        body = rb"(?:[^" + quote + rb"]++|" + quote + quote + rb")*+"
        closed = quote + body + quote + rb"(?=[\r\n" + delimiter + rb"]|\Z)"
        value = rb"(?:" + closed + rb"|(?!" + quote + rb")" + plain + rb")" if quote else plain
        lenient = rb"(?:" + quote + body + rb"(?:" + quote + plain + rb"|\Z)|" + plain + rb")"
        record = rb"(?!\Z)(?:" + value + delimiter + rb")*+" + value + rb"(?:\r\n|\r|\n|\Z)"
        # Passes over quotes that open no field, and so ends at the first field that isn't closed well.
        literal = rb"(?!\A)(?<![\r\n" + delimiter + rb"])" + quote
        sound = rb"(?:[^" + quote + rb"]++|" + literal + rb"|" + closed + rb")*+" if quote else rb"(?s:.*)"
        fields = rb"(" + (lenient if quote else plain) + rb")(?:" + delimiter + rb"|(\Z))"
        for name, pattern in (
            ("_fields", fields),
            ("_records", rb"(?:" + record + rb")*+"),
            ("_sound", sound),
            ("_values", rb"(?:" + value + delimiter + rb")*+"),
            ("_quoted", quote + body if quote else rb"(?!)"),
        ):
            object.__setattr__(self, name, re.compile(pattern))

    def cut(self, data: bytes, view: int, *, final: bool, full: bool) -> Cut:
        """Where the whole records of `data[:view]` end, which begins with a record; and its bad lines.

        `final`: the file ends with the view. `full`: no record may be longer than the view.
        """
        end = view if final else _last_line_end(data, view)
        if not self.quote or data.find(self.quote.encode(), 0, end) < 0:
            return Cut(end)
        end_found = self._end_by_quotes(data, end, final=final)
        if end_found:
            return Cut(end_found)
        if _matched(self._sound, data, 0, end) == end:
            return Cut(end)
        return self._examined(data, end, view, final=final, full=full)

    def is_sound(self, record: bytes) -> bool:
        """Whether the quotes of one record, without its line end, are what they should be."""
        found = self._records.match(record)
        return found is not None and found.end() == len(record)

    def split(self, record: bytes) -> list[str]:
        """The fields of one record without its line end, also where its quotes are wrong."""
        values: list[str] = []
        for found in self._fields.finditer(record):
            values.append(self._unquoted(found[1].decode("utf-8", "backslashreplace")))
            if found[2] is not None:
                break
        return values

    def _end_by_quotes(self, data: bytes, end: int, *, final: bool) -> int:
        """Where the last whole record ends, if all quotes before `end` are clear; else 0.

        They are where each opens, closes or is doubled, and where none of them opens a field. Quotes open and
        close in turns, so their order says what each must be; its neighbour shows if it is.
        """
        codes = np.frombuffer(data, np.uint8, end)
        quotes = np.flatnonzero(codes == ord(self.quote))
        before = codes.take(quotes[0::2] - 1, mode="clip")
        if quotes[0] == 0:
            before[0] = _LF
        # A quote that is the file's last byte is its own neighbour, and fits.
        after = codes.take(quotes[1::2] + 1, mode="clip")
        if not (self._borders(before) and self._borders(after)):
            opening = self._ends_field(codes.take(quotes - 1, mode="clip"))
            return 0 if quotes[0] == 0 or opening.any() else end
        if len(quotes) % 2 == 0:
            return end
        if final:
            return 0
        stop = int(quotes[-1])
        while (found := _last_line_end(data, stop)) and (inside := int(np.searchsorted(quotes, found))) % 2:
            stop = int(quotes[inside - 1])
        return found

    def _borders(self, codes: NDArray[np.uint8]) -> bool:
        """Whether all of these bytes may stand beside a quote that opens, closes or is doubled."""
        return bool((self._ends_field(codes) | (codes == ord(self.quote))).all())

    def _ends_field(self, codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of these bytes end a field, if they aren't in quotes."""
        ends: NDArray[np.bool_] = (codes == ord(self.delimiter)) | (codes == _LF) | (codes == _CR)
        return ends

    def _examined(self, data: bytes, end: int, view: int, *, final: bool, full: bool) -> Cut:
        """The same as `cut`, record by record."""
        at, bad = 0, list[BadLine]()
        while True:
            at = _matched(self._records, data, at, end)
            if at >= end:
                break
            begin, stop = at, self._fault_end(data, at, view, whole=final or (full and at == 0))
            if stop is None:
                break
            line = _matched(_LINE, data, begin, view)
            fault: QuoteFault = "stray" if stop < view else "unclosed"
            last = stop if fault == "stray" else _without_line_end(data, view)
            bad.append(BadLine(begin, line, fault, 1 + line_ends(data, begin, last)))
            at = line_end(data, line)
            if (stop - begin) * 2 > view:
                break  # the view has grown for this record alone
        return Cut(at, tuple(bad))

    def _fault_end(self, data: bytes, at: int, view: int, *, whole: bool) -> int | None:
        """Where the quote stands that is followed by other text, in the record at `at`; `view` for nowhere.

        None if the view ends before that can be seen. `whole`: nothing behind the view counts.
        """
        opening = _matched(self._values, data, at, view)
        closing = _matched(self._quoted, data, opening, view)
        # Where it is closed well, or isn't quoted, the view ends before the record does.
        if opening < closing < view - 1 and data[closing + 1] not in f"\r\n{self.delimiter}".encode():
            return closing
        return view if whole else None

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


def line_ends(data: bytes, begin: int = 0, end: int | None = None) -> int:
    """How many line ends there are in `data[begin:end]`; CRLF is one."""
    codes = np.frombuffer(data, np.uint8)[begin:end]
    feeds = codes == _LF
    count = int(np.count_nonzero(feeds))
    if data.find(b"\r", begin, len(data) if end is None else end) >= 0:
        returns = codes == _CR
        count += int(np.count_nonzero(returns[:-1] > feeds[1:])) + int(returns[-1])
    return count


def likeliest(header: str, quote: str) -> str:
    """The delimiter that stands most often in the header outside quotes; a comma where there is none."""
    bare = (
        re.sub(f"{re.escape(quote)}[^{re.escape(quote)}]*{re.escape(quote)}", "", header) if quote else header
    )
    return max(DELIMITERS, key=bare.count)


def _matched(pattern: re.Pattern[bytes], data: bytes, begin: int, end: int) -> int:
    """Where the match ends that begins at `begin`, of a pattern that matches anything."""
    found = pattern.match(data, begin, end)
    return found.end() if found else begin


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


def _without_line_end(data: bytes, end: int) -> int:
    """`end`, or what stands before the line end that ends there."""
    if data.endswith(b"\r\n", 0, end):
        return end - 2
    return end - 1 if data.endswith((b"\n", b"\r"), 0, end) else end
