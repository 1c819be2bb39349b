"""Quotes, escapes, marks and headers anywhere: rows and rejects are those of a slow and plain reader."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.model import Reject
from tests.reader.csv_reference import Found, Reference
from tests.reader.reading import csv_pieces, rejects_of, rows_of, written

many = settings(max_examples=400, deadline=None)
signs = st.sampled_from(
    [
        "a",
        "b",
        "é",
        " ",
        ",",
        '"',
        '""',
        '","',
        "\\",
        '\\"',
        "\\\\",
        "\n",
        "\r\n",
        "\r",
        "\ufeff",
        "\ufdd0",
        "\ufdd0e",
        "N",
    ]
)
texts = st.lists(signs, max_size=40).map("".join)
# Lines that are mostly regular, so that wrong quotes swallow good lines, and records repeat the header.
fields = st.sampled_from(
    [
        "a",
        "",
        '"a"',
        '"a,\nb"',
        '"x ""y"" z"',
        '""',
        '5" disk',
        '"a"b',
        '"a',
        'a"',
        '"a\\"',
        '"a\\"b"',
        "a\\,b",
        "a\\",
        "\\N",
    ]
)
rows = st.lists(st.lists(fields, min_size=2, max_size=2).map(",".join) | st.just('a,"b"'), max_size=25)
ends = st.sampled_from(["\n", "\r\n", "\r"])


def found_in(path: Path, block: int, **options: str) -> list[Found]:
    """What our reader finds, in the words of the other."""
    pieces = csv_pieces(path, block, **options)
    rejects = {reject.row: _found(reject) for reject in rejects_of(pieces)}
    good = {row: Found(tuple(values.values())) for row, values in rows_of(pieces).items()}
    both = {**good, **rejects}
    assert sorted(both) == list(range(1, len(both) + 1))
    return [both[row] for row in sorted(both)]


def _found(reject: Reject) -> Found:
    values = json.loads(reject.values)
    if reject.code in {"stray_quote", "unclosed_quote"}:
        return Found((), reject.code, values["line"], 1 + reject.swallowed)
    extra = values.pop("extra fields", [])
    return Found((*values.values(), *extra), reject.code)


@many
@given(text=texts | st.tuples(rows, ends).map(lambda both: both[1].join(both[0])), block=st.integers(1, 70))
@pytest.mark.parametrize("escape", ["", "\\"])
def test_every_text_is_read_as_the_slow_reader_reads_it(text: str, block: int, escape: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), "x.csv", f"a,b\n{text}")
        expected = Reference(f"a,b\n{text}", escape=escape).records
        for size in (block, 1 << 20):
            assert found_in(path, size, escape=escape, delimiter=",") == expected
