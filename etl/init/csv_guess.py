"""How a CSV file is written, by its first lines: encoding, delimiter, and where the header stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from ..errors import SourceError
from ..job import CsvOptions
from ..job.problems import clipped
from ..model import RowRange
from ..reader import Source, open_source

_LINES: Final = 2000
_BYTES: Final = 1 << 20
_MOST_ABOVE: Final = 30  # lines above the header
# A character that no text has, so that each line is one field.
_NO_DELIMITER: Final = "\ufdd2"
_RAW: Final = CsvOptions(encoding="latin-1", delimiter=_NO_DELIMITER, quote="", header=("line",))
_USUAL: Final = (",", ";", "\t", "|")
# Letters whose neighbours are letters alike, if the encoding is right: e.g. `é` between Latin letters is no kanji.
_WIDE: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff01-\uff60\u3001-\u3003]")
_CYRILLIC: Final = re.compile("[\u0400-\u04ff]")
_BY_SCRIPT: Final = (
    ("cp932", _WIDE), ("euc_jp", _WIDE), ("gb18030", _WIDE), ("cp949", _WIDE), ("cp1251", _CYRILLIC),
)  # fmt: skip
_KANA: Final = re.compile("[\u3041-\u30fa]")
_VALUE: Final = re.compile(
    r"(?P<mail>[^@\s]+@[^@\s]+\.\w+)|(?P<number>[+-]?\d+[.,]\d+|\d{5,})|(?P<date>\d{4}-\d\d?-\d\d?.*"
    r"|\d\d?[./]\d\d?[./]\d{2,4})|(?P<url>https?://.*)"
    r"|(?P<uuid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
)


@dataclass(frozen=True, slots=True)
class CsvGuess:
    """The likeliest options for a source, and sentences on what a user should know of them."""

    options: CsvOptions
    remarks: tuple[str, ...] = ()


def guess_csv(locations: Sequence[str], *, all_lines: bool = False) -> CsvGuess:
    """Look at the first lines of the first CSV file. Raises SourceError where the source can't be opened.

    `all_lines`: look for the encoding at all lines that have other letters than ASCII's.
    """
    plain = CsvOptions()
    if "-" in locations:  # what was read from stdin is gone
        return CsvGuess(plain)
    failure: SourceError | None = None
    for encoding in ("latin-1", "utf-16-le", "utf-16-be"):
        try:
            source = open_source(locations, csv=replace(_RAW, encoding=encoding))
        except SourceError as error:
            failure = failure or error
            continue
        if not any(file.format == "csv" for file in source.files):
            return CsvGuess(plain)
        lines = [*_lines(source, all_lines=all_lines)]
        break
    else:
        assert failure is not None
        raise failure
    if encoding == "latin-1":
        encoding = _encoding(lines)
        lines = [_decoded(line, encoding) for line in lines]
    options = replace(plain, encoding=encoding)
    return _layout(locations, options, lines)


def _lines(source: Source, *, all_lines: bool) -> Iterator[str]:
    """The first lines that aren't blank, and then if wanted some of those beyond ASCII."""
    count = size = 0
    for number, file in enumerate(source.files):
        if file.format != "csv":
            continue
        for batch in source.read(RowRange(number)):
            for line in batch.rows.column(0).to_pylist():
                if (count < _LINES and size < _BYTES) or (all_lines and not line.isascii() and count < 10 * _LINES):
                    count, size = count + 1, size + len(line)
                    yield line
            if not all_lines and (count >= _LINES or size >= _BYTES):
                return


def _decoded(line: str, encoding: str) -> str:
    """A line that was read as latin-1 in another encoding; it may be UTF-8 or UTF-16 that was found by a mark."""
    with suppress(UnicodeEncodeError):
        return line.encode("latin-1").decode(encoding, "replace")
    return line


def _encoding(lines: Sequence[str]) -> str:
    """The encoding of lines that were read as latin-1."""
    try:
        data = "\n".join(line for line in lines if not line.isascii()).encode("latin-1")
    except UnicodeEncodeError:  # a byte order mark said what it is
        return "utf-8"
    with suppress(UnicodeDecodeError):
        data.decode()
        return "utf-8"
    broken = [line for line in data.split(b"\n") if not _is_text(line, "utf-8")]
    if 2 * len(broken) < data.count(b"\n") + 1:
        return "utf-8"  # with a few broken bytes
    best, most = "", 0.5
    for encoding, script in _BY_SCRIPT:
        if not _is_text(data, encoding):
            continue
        text = data.decode(encoding)
        letters = [bool(script.match(sign)) for sign in text if not sign.isascii()]
        beside = [a == b for a, b in pairwise(bool(script.match(sign)) for sign in text) if a]
        share = min(sum(letters) / len(letters), sum(beside) / max(1, len(beside)))
        share += 0.3 * bool(_KANA.search(text)) * (script is _WIDE)
        if share > most:
            best, most = encoding, share
    return best or ("cp1252" if _is_text(data, "cp1252") else "latin-1")


def _is_text(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


# --- delimiter and header --------------------------------------------------------------------------------


def _layout(locations: Sequence[str], options: CsvOptions, lines: Sequence[str]) -> CsvGuess:
    """The options with the delimiter, the lines to skip and the names of a missing header."""
    try:
        source = open_source(locations, csv=options)
    except SourceError:  # such as a quote in a title that is never closed
        source = None
    first = next((n for n, file in enumerate(source.files) if file.format == "csv"), 0) if source else 0
    names = source.schema(first).names if source else []
    told = bool(lines) and re.fullmatch(r'(?i)"?sep=.?"?', lines[0].strip("\ufeff\r\n")) is not None
    if not lines or told:
        return CsvGuess(options)
    found = _delimiter(lines)
    if found is None or (len(names) > 1 and found in _USUAL and not _is_title(lines, found)):
        return _header(_with_delimiter(options, source, locations, first), names, lines)
    above = next(n for n, line in enumerate(lines) if line.count(found) >= _usual_count(lines, found))
    options = replace(options, delimiter=found)
    if above == 0:
        names = open_source(locations, csv=options).schema(first).names
        return _header(replace(options, delimiter=None if found == "," else found), names, lines)
    # Blank lines count, too, and the reader has left them out.
    header = [name.strip('" ') for name in lines[above].strip("\r\n").split(found)]
    for skipped in range(above, _MOST_ABOVE):
        with suppress(SourceError):
            guess = replace(options, skip_rows=skipped)
            if [name.strip('" ') for name in open_source(locations, csv=guess).schema(first).names] == header:
                options = replace(guess, delimiter=None if found == "," else found)
                says = "1 line stands" if above == 1 else f"{above} lines stand"
                return CsvGuess(options, (f"{says} above the header: csv.skip_rows {skipped}",))
    return CsvGuess(options)


def _is_title(lines: Sequence[str], delimiter: str) -> bool:
    """Whether the first line has fewer delimiters than those after it."""
    return lines[0].count(delimiter) < _usual_count(lines, delimiter)


def _usual_count(lines: Sequence[str], sign: str) -> int:
    return Counter(line.count(sign) for line in lines[:_LINES] if sign in line).most_common(1)[0][0]


def _delimiter(lines: Sequence[str]) -> str | None:
    """The sign that comes equally often in most lines; None if there is none."""
    some = [re.sub('"(?:[^"]|"")*"', '""', line) for line in lines[:200]]
    signs = {sign for line in some[:40] for sign in line if _may_part(sign)}
    best: tuple[float, bool, int, str] | None = None
    for sign in signs:
        counts = Counter(line.count(sign) for line in some)
        count, lines_with = max(
            ((count, number) for count, number in counts.items() if count), key=lambda one: one[1]
        )
        share = lines_with / len(some)
        # Usual delimiters come before others that are as regular.
        candidate = (round(share, 1), sign in _USUAL or not sign.isprintable(), count, sign)
        if lines_with > 0.6 * len(some) and (best is None or candidate > best):
            best = candidate
    return best[3] if best else None


def _may_part(sign: str) -> bool:
    return not (sign.isalnum() or sign in "\"' _-.@\r\n\0\x1a()/+€$%\\\ufeff\ufffd=#&*?!<>")


def _with_delimiter(
    options: CsvOptions, source: Source | None, locations: Sequence[str], first: int
) -> CsvOptions:
    """The options with the delimiter that the reader found by itself; None where there is only one column."""
    names = source.schema(first).names if source else []
    for delimiter in _USUAL if len(names) > 1 else ():
        guess = replace(options, delimiter=delimiter)
        if open_source(locations, csv=guess).schema(first).names == names:
            return options if delimiter == "," else guess
    return options


def _header(options: CsvOptions, names: Sequence[str], lines: Sequence[str]) -> CsvGuess:
    """The options with names for columns where the header is a row like those after it."""
    delimiter = options.delimiter or ","
    rows = [line.split(delimiter) for line in lines[1:50]]
    for place, name in enumerate(names):
        kind = _kind(name)
        below = [row[place] for row in rows if len(row) == len(names)]
        if kind and 2 * sum(_kind(value) == kind for value in below) > len(below):
            header = tuple(f"column_{number}" for number in range(1, len(names) + 1))
            remark = (
                f"the header looks like data ({clipped(name)}), so all lines are rows: name the columns in "
                "csv.header"
            )
            return CsvGuess(replace(options, header=header), (remark,))
    return CsvGuess(options)


def _kind(value: str) -> str | None:
    found = _VALUE.fullmatch(value.strip().strip('"'))
    return found.lastgroup if found else None
