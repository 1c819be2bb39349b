"""Where CSV records and fields begin and end. It knows the text only: no files, no columns.

A quote opens a quoted field only where the field begins; elsewhere in a plain field it is a character like
any other. The quote that closes a field is followed by the delimiter or a line end: other text there shows
that the quotes are wrong. A record ends at LF, CRLF or a lone CR outside quotes.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

import numpy as np

DELIMITERS: Final = (",", ";", "\t", "|")
LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BLANK_LINES: Final = re.compile(rb"[\r\n]*")
_LINE: Final = re.compile(rb"[^\r\n]*+")
_CR, _LF = ord("\r"), ord("\n")


class BadLine(NamedTuple):
    """The first line of a record whose quotes are wrong, `data[begin:end]`, without its line end.

    `stray`: text follows a closing quote; `unclosed`: no quote closes the field. Read with its quotes, the
    record would span `lines` lines: to the stray text, or to the end of what may be looked at.
    """

    begin: int
    end: int
    fault: Literal["stray", "unclosed"]
    lines: int


class WholeRecords(NamedTuple):
    """Whole records and bad lines end at `end`, which is 0 if none is in sight yet."""

    end: int
    bad: tuple[BadLine, ...] = ()


class CsvDialect:
    """The delimiter and the quote of a file, one ASCII character each; `quote` "" means none.

    `delimiter` may be several characters while it isn't known which of them it is.
    """

    def __init__(self, delimiter_text: str, quote_text: str) -> None:
        self.delimiter, self.quote = delimiter_text, quote_text
        delimiters, quote = (re.escape(characters.encode()) for characters in (delimiter_text, quote_text))
        delimiter = rb"[" + delimiters + rb"]"
        plain = rb"[^\r\n" + delimiters + rb"]*+"
        body = rb"(?:[^" + quote + rb"]++|" + quote + quote + rb")*+"
        closed = quote + body + quote + rb"(?=[\r\n" + delimiters + rb"]|\Z)"
        value = rb"(?:" + closed + rb"|(?!" + quote + rb")" + plain + rb")" if quote else plain
        quoted = quote + rb"(" + body + rb")(?:" + quote + rb"|\Z)" if quote else rb"((?!))"
        lenient = rb"(?:" + quoted + rb")?+(" + plain + rb")"
        record = rb"(?!\Z)(?:" + value + delimiter + rb")*+" + value + rb"(?:\r\n|\r|\n|\Z)"
        # Passes over quotes that open no field, and so ends at the first field that isn't closed well.
        literal = rb"(?!\A)(?<![\r\n" + delimiters + rb"])" + quote
        sound = rb"(?:[^" + quote + rb"]++|" + literal + rb"|" + closed + rb")*+" if quote else rb"(?s:.*)"
        self._fields = re.compile(lenient + rb"(?:" + delimiter + rb"|(\Z))")
        self._first = re.compile(rb"(?:" + lenient + delimiter + rb")*+" + lenient)
        self._sound = re.compile(sound)
        self._records = re.compile(rb"(?:" + record + rb")*+")
        self._values = re.compile(rb"(?:" + value + delimiter + rb")*+")
        self._quoted = re.compile(quote + body if quote else rb"(?!)")
        # Which bytes end a field, if they aren't in quotes.
        self._ends_field = np.isin(np.arange(256), [*map(ord, delimiter_text), _LF, _CR])

    def first_record(self, data: bytes, at: int, *, final: bool) -> tuple[int, int] | None:
        """Find the first record from `at` on that isn't blank; None if `data` is too short.

        Return where it begins and ends, without its line end. Its quotes may be wrong. `final`: the file ends
        with `data`.
        """
        begin = _match_end(_BLANK_LINES, data, at, len(data))
        end = _match_end(self._first, data, begin, len(data))
        return None if end == len(data) and not final else (begin, end)

    def whole_records(self, data: bytes, view: int, *, final: bool, full: bool) -> WholeRecords:
        """Find the end of the whole records of `data[:view]`, which begins with a record; and its bad lines.

        `final`: the file ends with the view. `full`: no record may be longer than the view.
        """
        end = view if final else _last_line_end(data, view)
        if not self.quote or data.find(self.quote.encode(), 0, end) < 0:
            return WholeRecords(end)
        end_found = self._end_by_quotes(data, end, final=final)
        if end_found:
            return WholeRecords(end_found)
        if _match_end(self._sound, data, 0, end) == end:
            return WholeRecords(end)
        at, bad = 0, list[BadLine]()
        while (at := _match_end(self._records, data, at, end)) < end:
            begin, stop = at, self._fault_end(data, at, view, whole=final or (full and at == 0))
            if stop is None:
                break
            line = _match_end(_LINE, data, begin, view)
            lines = 1 + count_line_ends(data, begin, stop)
            if stop == view:  # a line end that ends there begins no line
                lines -= data.endswith((b"\n", b"\r"), begin, view)
            bad.append(BadLine(begin, line, "stray" if stop < view else "unclosed", lines))
            at = line_end(data, line)
            if (stop - begin) * 2 > view:
                break  # the view has grown for this record alone
        return WholeRecords(at, tuple(bad))

    def is_sound(self, record: bytes) -> bool:
        """Whether the quotes of one record, without its line end, are right."""
        return _match_end(self._records, record, 0, len(record)) == len(record)

    def split(self, record: bytes) -> list[str]:
        """Split one record without its line end into its fields, also if its quotes are wrong."""
        values: list[str] = []
        for found in self._fields.finditer(record):
            quoted, rest = ((text or b"").decode("utf-8", "backslashreplace") for text in found.group(1, 2))
            values.append(quoted.replace(self.quote * 2, self.quote) + rest)
            if found[3] is not None:
                break
        return values

    def _end_by_quotes(self, data: bytes, end: int, *, final: bool) -> int:
        """The end of the last whole record, if all quotes before `end` are clear; else 0.

        They are if each opens, closes or is doubled, or if none of them opens a field. Quotes open and
        close in turns, so their order shows what each must be, and its neighbour whether it is.
        """
        codes = np.frombuffer(data, np.uint8, end)
        quotes = np.flatnonzero(codes == ord(self.quote))
        before = codes.take(quotes[0::2] - 1, mode="clip")
        if quotes[0] == 0:
            before[0] = _LF
        # A quote that is the file's last byte is its own neighbour, and fits.
        after = codes.take(quotes[1::2] + 1, mode="clip")
        if not all((self._ends_field[some] | (some == ord(self.quote))).all() for some in (before, after)):
            opening = self._ends_field[codes.take(quotes - 1, mode="clip")]
            return 0 if quotes[0] == 0 or opening.any() else end
        if len(quotes) % 2 == 0:
            return end
        if final:
            return 0
        stop = int(quotes[-1])
        while (found := _last_line_end(data, stop)) and (inside := int(np.searchsorted(quotes, found))) % 2:
            stop = int(quotes[inside - 1])
        return found

    def _fault_end(self, data: bytes, at: int, view: int, *, whole: bool) -> int | None:
        """Where the quote stands that is followed by other text, in the record at `at`; `view` for nowhere.

        None if the view ends before that can be seen. `whole`: nothing behind the view counts.
        """
        opening = _match_end(self._values, data, at, view)
        closing = _match_end(self._quoted, data, opening, view)
        # If it is closed well, or isn't quoted, the view ends before the record does.
        if opening < closing < view - 1 and data[closing + 1] not in f"\r\n{self.delimiter}".encode():
            return closing
        return view if whole else None


def line_end(data: bytes, at: int) -> int:
    """Return the position after the line end that stands at `at`."""
    return _match_end(LINE_END, data, at, len(data))


def count_line_ends(data: bytes, begin: int = 0, end: int | None = None) -> int:
    """Count the line ends in `data[begin:end]`; CRLF is one."""
    codes = np.frombuffer(data, np.uint8)[begin:end]
    feeds = codes == _LF
    count = int(np.count_nonzero(feeds))
    if data.find(b"\r", begin, len(data) if end is None else end) >= 0:
        returns = codes == _CR
        count += int(np.count_nonzero(returns[:-1] > feeds[1:])) + int(returns[-1])
    return count


def likeliest_delimiter(header: str, quote: str) -> str:
    """Return the delimiter that occurs most often in the header outside quotes; a comma if there is none."""
    mark = re.escape(quote)
    bare = re.sub(f"{mark}[^{mark}]*{mark}", "", header) if quote else header
    return max(DELIMITERS, key=bare.count)


def _match_end(pattern: re.Pattern[bytes], data: bytes, begin: int, end: int) -> int:
    """Where the match ends that begins at `begin`; `begin` for no match."""
    found = pattern.match(data, begin, end)
    return found.end() if found else begin


def _last_line_end(data: bytes, before: int) -> int:
    """The position after the last line end that stands before `before`."""
    end = data.rfind(b"\n", 0, before) + 1
    return end or data.rfind(b"\r", 0, before) + 1
