"""The values of a column, the issues found in them, and the rows that are rejected or lose a value by issues.

Text and lists are held here to the lengths that Amplitude takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.requests import MAX_GROUP_VALUES, MAX_STRING_LENGTH
from ..arrow.json_text import dump_json, is_json, json_column, load_json
from ..arrow.layout import FlatLists, RowMask, as_mask, is_list, valid_mask
from ..arrow.originals import plain_text, python_value, to_json
from ..model import RowFault, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..arrow.layout import FieldPath

TooLong: TypeAlias = Literal["reject", "truncate"]

STRING_TOO_LONG: Final = f"{{}} has more than {MAX_STRING_LENGTH} characters"
LIST_TOO_LONG: Final = f"the strings of {{}} have more than {MAX_STRING_LENGTH} characters together"
_TOO_MANY_GROUPS: Final = f"{{}} has more than {MAX_GROUP_VALUES} group values"
NESTED_LIST: Final = "{} has a list inside a list"

_MOST_FAULTS: Final = 100  # of one row
_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class ValueIssue:
    """One thing that is wrong with the values of some rows.

    `rows` (bool, shape (n,)) marks them. In `message`, {} stands for the value, quoted from `shown` (shape
    (n,)) or, where that is None, from the source column.
    """

    code: str
    rows: RowMask
    message: str
    shown: pa.Array | None = None


Issues: TypeAlias = tuple[ValueIssue, ...]


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """Values of a column, shape (n,), null where there is none; of the type `JSON` where Arrow has none."""

    values: pa.Array
    issues: Issues = ()

    @property
    def wrong(self) -> RowMask:
        """Which rows have an issue; shape (n,)."""
        none = np.zeros(len(self.values), dtype=np.bool_)
        mask: RowMask = np.logical_or.reduce([none, *(issue.rows for issue in self.issues)])
        return mask

    def then(self, step: Callable[..., Any], *arguments: Any, **options: Any) -> ColumnValues:
        """Apply a step to the values; the issues found before stay. One that finds none returns an array."""
        after = step(self.values, *arguments, **options)
        if not isinstance(after, ColumnValues):
            return ColumnValues(after, self.issues)
        return ColumnValues(after.values, self.issues + after.issues)


def first_issues(issues: Iterable[ValueIssue], n: int) -> list[ValueIssue]:
    """The issues of n values; of several issues of a value only the first, which counts."""
    seen, found = np.zeros(n, dtype=np.bool_), []
    for issue in issues:
        if (rows := issue.rows & ~seen).any():
            found.append(replace(issue, rows=rows))
            seen |= rows
    return found


def issues_of(code: str, rows: pa.Array | RowMask, message: str, shown: pa.Array | None = None) -> Issues:
    """One issue for the marked rows, or none where no row is marked; a null mark counts as false."""
    mask = rows if isinstance(rows, np.ndarray) else as_mask(rows)
    return (ValueIssue(code, mask, message, shown),) if mask.any() else ()


def blank_bad(values: pa.Array, bad: pa.Array | RowMask, code: str, message: str) -> ColumnValues:
    """The values without the marked ones, which are an issue; a null mark counts as false."""
    return ColumnValues(blank_out(values, bad), issues_of(code, bad, message))


def blank_out(values: pa.Array, rows: pa.Array | RowMask) -> pa.Array:
    """The values with null in the marked rows."""
    marks = pa.array(rows) if isinstance(rows, np.ndarray) else rows
    return pc.if_else(marks, pa.scalar(None, values.type), values) if pc.any(marks).as_py() else values


def empty_to_null(values: pa.Array) -> pa.Array:
    """Empty strings as null; other types as they are."""
    if not pa.types.is_string(values.type):
        return values
    return blank_out(values, pc.equal(pc.binary_length(values), 0))


def words_to_null(values: pa.Array, words: tuple[str, ...]) -> pa.Array:
    """Texts that mean null as null, compared without the blanks around them; other types as they are."""
    if not pa.types.is_string(values.type):
        return values
    known = pa.array(words, pa.string())
    return blank_out(values, pc.is_in(pc.utf8_trim_whitespace(values), value_set=known))


# --- lists, and limits on their text ---------------------------------------------------------------------


def to_lists(values: pa.Array) -> pa.Array:
    """Lists as they are, each other value as a list of one; null stays null."""
    if is_list(values.type):
        return values
    present, elements = valid_mask(values), values.drop_null()
    return FlatLists(elements, present.astype(np.int64), ~present).rebuild(elements)


def issues_of_lists(lists: FlatLists, issues: Issues) -> Issues:
    """Issues of elements as issues of their lists."""
    rows_of = (np.bincount(lists.owners[issue.rows], minlength=len(lists.lengths)) > 0 for issue in issues)
    return tuple(replace(one, rows=rows, shown=None) for one, rows in zip(issues, rows_of, strict=True))


def fit_strings(values: pa.Array, too_long: TooLong) -> ColumnValues:
    """Apply the limit to strings: a longer one is an issue, or is cut."""
    # Bytes are cheaper to count than characters, and never fewer.
    longest = pc.max(pc.binary_length(values)).as_py()
    if longest is None or longest <= MAX_STRING_LENGTH:
        return ColumnValues(values)
    if too_long == "truncate":
        return ColumnValues(pc.utf8_slice_codeunits(values, 0, MAX_STRING_LENGTH))
    longer = pc.greater(pc.utf8_length(values), MAX_STRING_LENGTH)
    return ColumnValues(values, issues_of("too_long", longer, STRING_TOO_LONG))


def fit_lists(values: pa.Array, too_long: TooLong) -> ColumnValues:
    """Apply the limit to lists of strings without nulls; all strings of a list count together.

    A list that is cut keeps its first elements, as many as fit. A first one too long by itself is cut.
    """
    lists = FlatLists.of(values)
    elements, owners, n = lists.elements, lists.owners, len(values)
    if (np.bincount(owners, pc.binary_length(elements), n) <= MAX_STRING_LENGTH).all():
        return ColumnValues(values)
    if too_long == "truncate":
        short = pc.utf8_slice_codeunits(elements, 0, MAX_STRING_LENGTH)
        upto = np.append(0, np.cumsum(pc.utf8_length(short)))
        return ColumnValues(lists.rebuild(short, upto[1:] - upto[lists.starts][owners] <= MAX_STRING_LENGTH))
    longer = np.bincount(owners, pc.utf8_length(elements), n) > MAX_STRING_LENGTH
    return ColumnValues(values, issues_of("too_long", longer, LIST_TOO_LONG))


def count_groups(values: pa.Array) -> ColumnValues:
    """Group values as they are; a list of too many is an issue."""
    if not is_list(values.type):
        return ColumnValues(values)
    many = pc.greater(pc.list_value_length(values), MAX_GROUP_VALUES)
    return ColumnValues(values, issues_of("too_many_groups", many, _TOO_MANY_GROUPS))


# --- what issues do to rows ------------------------------------------------------------------------------


class RowIssues:
    """The issues of each of n rows; `rows` (bool, shape (n,)) marks the rows that have some.

    Add issues in the order in which they count.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.rows: RowMask = np.zeros(n, dtype=np.bool_)
        self._issues: list[tuple[str, str, ValueIssue, pa.Array | None]] = []

    def add(self, column: str, prefix: str, issues: Issues, source: pa.Array | None = None) -> None:
        """Add issues of a column, whose messages begin with `prefix`; values are quoted from `source`."""
        for issue in first_issues(issues, self.n):
            self._issues.append((column, prefix, issue, source))
            self.rows |= issue.rows

    def faults(self) -> Iterator[tuple[int, tuple[RowFault, ...]]]:
        """Every row with an issue and its faults, ascending by row; at most _MOST_FAULTS of each."""
        found: dict[int, list[RowFault]] = {row: [] for row in np.flatnonzero(self.rows).tolist()}
        for column, prefix, issue, source in self._issues:
            shown = source if issue.shown is None else issue.shown
            for row in np.flatnonzero(issue.rows).tolist():
                if len(found[row]) < _MOST_FAULTS:
                    value = "" if shown is None else quote_value(shown, row)
                    reason = f"{prefix}: {issue.message.replace('{}', value)}"
                    found[row].append(RowFault(column, issue.code, reason, value))
        return ((row, tuple(faults)) for row, faults in found.items())


class SkippedValues:
    """The values of n rows that `invalid: skip` leaves out; `rows` has the mask of each spec's path."""

    def __init__(self) -> None:
        self.rows: dict[FieldPath, RowMask] = {}
        self._issues: list[tuple[str, ValueIssue]] = []

    def skip(self, path: FieldPath, column: str, read: ColumnValues) -> ColumnValues:
        """The values without those that have an issue."""
        self._issues += ((column, issue) for issue in first_issues(read.issues, len(read.values)))
        self.rows[path] = read.wrong
        return ColumnValues(blank_out(read.values, read.wrong))

    def counted(self, numbers: NDArray[np.int64], kept: RowMask) -> tuple[Skipped, ...]:
        """The skipped values of the `kept` rows; `numbers` (shape (n,)) are the row numbers."""
        found = (Skipped(column, issue.code, numbers[issue.rows & kept]) for column, issue in self._issues)
        return tuple(some for some in found if len(some.rows))


def quote_value(values: pa.Array, row: int) -> str:
    """One value as a printable line of at most 60 characters; text in quotes."""
    value = python_value(values[row])
    if is_json(values.type):
        value = load_json(str(value))
    nested = isinstance(value, (dict, list))
    text = (dump_json(value) if is_json(values.type) else to_json(value)) if nested else plain_text(value)
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "\u2026"
    line = "".join(c if c.isprintable() else " " for c in cut)
    if isinstance(value, bool):
        return line.lower()  # as in JSON, not as in Python
    return line if nested else f'"{line}"'


def quoted_counts(values: pa.Array) -> Iterable[tuple[str, int]]:
    """The distinct values as reasons quote them, with their counts."""
    plain = values.storage if is_json(values.type) else values
    if pa.types.is_nested(plain.type):
        return ((quote_value(values, row), 1) for row in range(len(values)))
    found = plain.value_counts()
    distinct = json_column(found.field(0)) if is_json(values.type) else found.field(0)
    texts = [quote_value(distinct, row) for row in range(len(distinct))]
    return zip(texts, found.field(1).to_pylist(), strict=True)
