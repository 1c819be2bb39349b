"""How CSV files are written: encoding, delimiter, where the header stands, and the escape character.

The first lines say most of it; where reading all rows contradicts them, the source is read again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from ..errors import SourceError
from ..job.problems import clipped
from ..job.sections import CsvOptions
from ..reader import Source, open_source
from ..reader.csv_reader import MORE_BELOW, VALUE
from ..reader.csv_records import DELIMITERS
from ..tally import RowRange
from ..text import counted
from .facts import ReadProgress, SourceFacts, read_facts

# The likeliest options, and what a user should know of them.
_Guess: TypeAlias = tuple[CsvOptions, tuple[str, ...]]
_BY_ESCAPES: Final = ("stray_quote", "unclosed_quote", "ragged")
_LINES: Final = 2000
_BYTES: Final = 1 << 20
_MOST_ABOVE: Final = 30  # lines above the header
# A character that no text has, so that each line is one field.
_NO_DELIMITER: Final = "\ufdd2"
_RAW: Final = CsvOptions(encoding="latin-1", delimiter=_NO_DELIMITER, quote="", header=("line",))
_NO_DELIMITERS: Final = "\"' _-.@\r\n\0\x1a()/+€$%\\\ufeff\ufffd=#&*?!<>"
_MOST: Final = 0.5  # of the lines
_NEARLY_ALL: Final = 0.9
# Letters that have others of their kind beside them if the encoding is right.
_WIDE: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff01-\uff60\u3001-\u3003]")
_KANA: Final = re.compile("[\u3041-\u30fa]")
_CYRILLIC: Final = re.compile("[\u0410-\u044f]")
# Both bytes of a letter are beyond ASCII.
_PAIRS: Final = re.compile(rb"(?:[\x00-\x7f]|[\xa1-\xfe]{2})*")


@dataclass(frozen=True, slots=True)
class Reading:
    """A source as it was read: with which options, why there is an escape character, and other remarks."""

    source: Source
    facts: SourceFacts
    csv: CsvOptions
    remark: str = ""
    remarks: tuple[str, ...] = ()


def read_likeliest(locations: Sequence[str], progress: ReadProgress | None) -> Reading:
    """Read a source with the encoding, escape character and delimiter that fit. Raises SourceError."""

    def read(csv: CsvOptions) -> tuple[Source, SourceFacts]:
        source = open_source(locations, csv=csv)
        return source, read_facts(source, progress=progress)

    csv, remarks = guess_csv(locations)
    source, facts = read(csv)
    if not source.repeatable or any(file.format != "csv" for file in source.files):
        return Reading(source, facts, csv, remarks=remarks)
    # A file in UTF-8 with a few broken bytes has other letters that are right; an old file has none.
    if csv.encoding == "utf-8" and facts.unreadable["bad_encoding"] > facts.beyond_ascii:
        csv, remarks = guess_csv(locations, all_lines=True)
        source, facts = read(csv)
    remark = ""
    if facts.backslashes:
        escaped = replace(csv, escape="\\")
        again, after = read(escaped)
        # Fewer rows have wrong quotes or another number of fields, and no other rows are lost.
        misread, before = (sum(one.unreadable[code] for code in _BY_ESCAPES) for one in (after, facts))
        lost, lost_before = (one.unreadable.total() for one in (after, facts))
        if misread < before and after.rows - lost > facts.rows - lost_before:
            remark = f"without `escape`, {counted(lost_before, 'row')} can't be read; with it, {lost:,}"
            source, facts, csv = again, after, escaped
    return Reading(source, facts, csv, remark, remarks)


# --- what the first lines say ----------------------------------------------------------------------------


def guess_csv(locations: Sequence[str], *, all_lines: bool = False) -> _Guess:
    """The likeliest options by the first lines of the first CSV file, and what a user should know of them.

    Raises SourceError where the source can't be opened. `all_lines`: look for the encoding at all lines that
    have other letters than ASCII's.
    """
    plain = CsvOptions()
    if any(one == "-" or Path(one).is_fifo() for one in locations):  # what was read of a pipe is gone
        return plain, ()
    failures = []
    found: list[tuple[str, bool]] = []
    for encoding in ("latin-1", "utf-16-le", "utf-16-be"):
        try:
            source = open_source(locations, csv=replace(_RAW, encoding=encoding))
        except SourceError as error:
            failures.append(error)
            continue
        if not any(file.format == "csv" for file in source.files):
            return plain, ()
        found = [*_lines(source, all_lines=all_lines)]
        # Read from the wrong end, UTF-16 has nothing of ASCII.
        if encoding == "latin-1" or any(sign.isascii() for line, _ in found for sign in line):
            break
    else:
        raise failures[0]
    if encoding == "latin-1":
        encoding = _encoding([line for line, marked in found if not marked])
        found = [
            (line if marked else line.encode("latin-1").decode(encoding, "replace"), marked)
            for line, marked in found
        ]
    lines = [line for line, _ in found]
    options = replace(plain, encoding=encoding)
    if not lines:
        return options, ()
    options, remarks = _layout(locations, options, lines)
    return replace(options, quote=_quote(options, lines)), remarks


def _lines(source: Source, *, all_lines: bool) -> Iterator[tuple[str, bool]]:
    """The first lines that aren't blank, and then if wanted some of those beyond ASCII.

    With each, whether its file begins with a byte order mark, which wins over any encoding.
    """
    count = size = 0
    files = [number for number, file in enumerate(source.files) if file.format == "csv"]
    marked = {number for number in files if source.has_order_mark(number)}
    batches = (batch for number in files for batch in source.read(RowRange(number)))
    found = ((line, batch.file) for batch in batches for line in batch.rows.column(0).to_pylist())
    for line, file in found:
        first = count < _LINES and size < _BYTES
        if first or (all_lines and not line.isascii() and count < 10 * _LINES):
            count, size = count + 1, size + len(line)
            yield line, file in marked
        elif not all_lines:
            return


def _encoding(lines: Sequence[str]) -> str:
    """The encoding of lines that were read as latin-1."""
    data = "\n".join(line for line in lines if not line.isascii()).encode("latin-1")
    parts = data.split(b"\n")
    if 2 * sum(_decoded(part, "utf-8") is None for part in parts) <= len(parts):
        return "utf-8"  # perhaps with a few broken bytes
    for encoding, script in (("euc_jp", _WIDE), ("gb18030", _WIDE), ("cp932", _WIDE), ("cp1251", _CYRILLIC)):
        text = _decoded(data, encoding)
        if text is None or (encoding[:2] in {"eu", "gb"} and not _PAIRS.fullmatch(data)):
            continue
        if encoding == "euc_jp" and not _KANA.search(text):
            continue
        beyond, right = sum(not sign.isascii() for sign in text), len(script.findall(text))
        # An accent that is read as a letter of another script has Latin letters beside it.
        wrong = len(re.findall(rf"(?<=[A-Za-z]){script.pattern}|{script.pattern}(?=[A-Za-z])", text))
        if right - wrong > 0.6 * beyond:
            return encoding
    return "latin-1" if _decoded(data, "cp1252") is None else "cp1252"


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


# --- delimiter and header --------------------------------------------------------------------------------


def _layout(locations: Sequence[str], options: CsvOptions, lines: Sequence[str]) -> _Guess:
    """The options with the delimiter, the lines to skip and the names of a missing header."""

    def names_with(options: CsvOptions) -> tuple[list[str], bool]:
        """The names in the header, and whether the lines below it have more fields."""
        try:
            source = open_source(locations, csv=options)
        except SourceError:  # such as a quote in a title that is never closed
            return [], True
        first = next(number for number, file in enumerate(source.files) if file.format == "csv")
        return source.names(first), any(MORE_BELOW in remark for remark in source.remarks())

    names, more_below = names_with(options)
    found = _delimiter(lines)
    if len(names) > 1 and not more_below and (found not in DELIMITERS or found in lines[0]):
        found = None
    if found is None:
        # The one that the reader found by itself.
        tries = [replace(options, delimiter=sign) for sign in DELIMITERS] if len(names) > 1 else []
        options = next((one for one in tries if names_with(one)[0] == names), options)
        return _header(options, names, lines)
    options = replace(options, delimiter=found)
    (usual_count, _), *_ = Counter(line.count(found) for line in lines if found in line).most_common(1)
    above = next(n for n, line in enumerate(lines) if line.count(found) >= usual_count)
    header = [name.strip('" ') for name in lines[above].strip("\r\n\ufeff").split(found)]
    # Blank lines count, too, and the reader has left them out of `lines`.
    for skipped in range(above, _MOST_ABOVE):
        guess = replace(options, skip_rows=skipped)
        if [name.strip('" ') for name in names_with(guess)[0]] == header:
            says = f"the header stands below other lines: csv.skip_rows is {skipped}"
            return _header(guess, header, lines[above:]) if not above else (guess, (says,))
    return options, ()


def _delimiter(lines: Sequence[str]) -> str | None:
    """The sign that comes equally often in most lines; None if there is none."""
    some = [re.sub('"(?:[^"]|"")*"', '""', line) for line in lines[:200]]
    signs = {sign for sign in set("".join(some[:40])) if not sign.isalnum() and sign not in _NO_DELIMITERS}
    found = list[tuple[float, bool, int, str]]()
    for sign in signs:
        counts = Counter(line.count(sign) for line in some)
        count, number = max(((count, counts[count]) for count in counts if count), key=lambda one: one[1])
        # Usual delimiters come before others that are as regular.
        usual = sign in DELIMITERS or not sign.isprintable()
        if number >= _MOST * len(some):
            found.append((round(number / len(some), 1), usual, count, sign))
    return max(found)[3] if found else None


def _quote(options: CsvOptions, lines: Sequence[str]) -> str:
    """The quote of the options, or `'` where nearly every line has a field that stands in such quotes."""
    sign = re.escape(options.delimiter or ",")
    field = re.compile(rf"(?:^|{sign})'(?:[^']|'')*'(?={sign}|$)")
    found = sum(field.search(line) is not None for line in lines)
    return "'" if 0 < _NEARLY_ALL * (len(lines) - 1) <= found else options.quote


def _header(options: CsvOptions, names: Sequence[str], lines: Sequence[str]) -> _Guess:
    """The options with names for columns where the header is a row like those after it."""
    rows = [line.split(options.delimiter or ",") for line in lines[1:50]]
    for place, name in enumerate(names):
        kind = _kind(name)
        below = [row[place] for row in rows if len(row) == len(names)]
        if kind and 2 * sum(_kind(value) == kind for value in below) > len(below):
            header = tuple(f"column_{number}" for number in range(1, len(names) + 1))
            remark = (
                f"the header looks like data ({clipped(name)}), so all lines are rows: name the columns in "
                "csv.header"
            )
            return replace(options, header=header), (remark,)
    return options, ()


def _kind(value: str) -> str | None:
    found = VALUE.fullmatch(value.strip().strip('"'))
    return found.lastgroup if found else None
