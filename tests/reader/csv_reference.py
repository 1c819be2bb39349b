"""A CSV reader that goes character by character, slow and plain: the contract, written down once more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MARKS_AT_LINE_STARTS = re.compile("(?:^|(?<=[\r\n]))\ufeff+")


@dataclass(frozen=True)
class Found:
    """A record: its `fields`, or what is wrong (`code`), its first `line` and the `lines` it would span."""

    fields: tuple[str, ...] = ()
    code: str = ""
    line: str = ""
    lines: int = 0


class BadQuoteError(Exception):
    """The quotes of a record are wrong; `end` is where that shows."""

    def __init__(self, code: str, end: int) -> None:
        super().__init__(code)
        self.code = code
        self.end = end


class Reference:
    """Reads a text from beginning to end; `records` are those after the header."""

    def __init__(self, text: str, delimiter: str = ",", quote: str = '"', escape: str = "") -> None:
        self.text = MARKS_AT_LINE_STARTS.sub("", text)
        self.delimiter, self.quote, self.escape = delimiter, quote, escape
        found = list(self._records())
        self.header = found[0].fields if found else ()
        self.records = [self._judged(one) for one in found[1:]]

    def _judged(self, one: Found) -> Found:
        if one.code:
            return one
        if len(one.fields) != len(self.header):
            return Found(one.fields, "ragged")
        return (
            Found(one.fields, "repeated_header")
            if [*map(str.strip, one.fields)] == [*map(str.strip, self.header)]
            else one
        )

    def _records(self) -> Iterator[Found]:
        at = 0
        while at < len(self.text):
            if self.text[at] in "\r\n":
                at += 1
                continue
            try:
                fields, at = self._record(at)
                yield Found(tuple(fields))
            except BadQuoteError as bad:
                end = self._line_end(at)
                yield Found((), bad.code, self.text[at:end], 1 + self._line_ends(at, bad.end))
                at = end

    def _record(self, at: int) -> tuple[list[str], int]:
        fields = []
        while True:
            quoted = bool(self.quote) and self.text.startswith(self.quote, at)
            value, at = self._quoted(at + 1) if quoted else self._plain(at)
            fields.append(value)
            if not self.text.startswith(self.delimiter, at):
                return fields, at + 1
            at += 1

    def _quoted(self, at: int) -> tuple[str, int]:
        value = ""
        while at < len(self.text):
            escaped = self._escaped(at)
            if escaped:
                value += escaped
                at += len(self.escape + escaped)
            elif self.text[at] != self.quote:
                value += self.text[at]
                at += 1
            elif self.text.startswith(self.quote, at + 1):
                value += self.quote
                at += 2
            elif self.text[at + 1 : at + 2] in ("", self.delimiter, "\r", "\n"):
                return value, at + 1
            else:
                raise BadQuoteError("stray_quote", at)
        raise BadQuoteError("unclosed_quote", len(self.text.removesuffix("\n").removesuffix("\r")))

    def _plain(self, at: int) -> tuple[str, int]:
        value = ""
        while at < len(self.text):
            escaped = self._escaped(at)
            if not escaped and self.text[at] in (self.delimiter, "\r", "\n"):
                break
            value += escaped or self.text[at]
            at += len(self.escape + escaped) if escaped else 1
        return value, at

    def _escaped(self, at: int) -> str:
        """What the escape character at this place stands before; "" if there is none, or it has no effect."""
        if not self.escape or not self.text.startswith(self.escape, at):
            return ""
        texts = ("\r\n", "\r", "\n", self.delimiter, self.quote, self.escape)
        return next((text for text in texts if text and self.text.startswith(text, at + 1)), "")

    def _line_end(self, at: int) -> int:
        while at < len(self.text) and self.text[at] not in "\r\n":
            escaped = self._escaped(at)
            at += len(self.escape + escaped) if escaped else 1
        return at

    def _line_ends(self, at: int, end: int) -> int:
        """How many line ends there are, without the escaped ones."""
        count = 0
        while (at := self._line_end(at)) < end:
            at += 2 if self.text.startswith("\r\n", at) else 1
            count += 1
        return count
