"""The users that every contender sends: the same rows in Parquet and CSV, whoever makes them and when.

    python -m bench.data FILE ROWS

The ending says what: `.parquet`, `.csv`, or `.expected`, which is what has to arrive. In a `.world.parquet`
some texts are outside ASCII; in a `.changed.parquet` every 50th user has another plan.

The rows of a shorter file are the first rows of a longer one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

GROUP = 100_000
EVERY = 50  # of so many users one has changed; a group is a multiple of it
FIELDS = ("platform", "os_name", "app_version", "language")
NUMBERS = ("mrr_usd", "lifetime_usd", "churn_score", "engagement")
COUNTS = ("logins", "seats", "days_active")
PROPERTIES = ("plan", "channel", *NUMBERS, *COUNTS)

_WORDS = {
    "plan": ["free", "pro", "team", "enterprise"],
    "channel": [f"campaign {number:03d} & partners" for number in range(1000)],
    "platform": ["iOS", "Android", "Web"],
    "os_name": ["ios", "android", "windows", "macos", "linux"],
    "app_version": [f"{major}.{minor}.0" for major in range(1, 6) for minor in range(20)],
    "language": ["English", "German", "French", "Portuguese", "Japanese"],
}
_CSV = pa_csv.WriteOptions(quoting_style="needed")
_OWN_NAMES = {"Portuguese": "Português", "Japanese": "日本語"}


def groups(rows: int) -> Iterator[pa.Table]:
    """Tables of at most GROUP rows: an id, six strings, four doubles, three integers."""
    for number, first in enumerate(range(0, rows, GROUP)):
        yield _group(number).slice(0, min(GROUP, rows - first))


def _group(number: int) -> pa.Table:
    random = np.random.default_rng([4, number])
    first = number * GROUP
    digits = pc.utf8_lpad(pa.array(np.arange(first, first + GROUP)).cast(pa.string()), 9, "0")
    columns = {"id": pc.binary_join_element_wise("user", digits, "-")}
    for name, words in _WORDS.items():
        columns[name] = pa.array(words).take(pa.array(random.integers(0, len(words), GROUP)))
    for name in NUMBERS[:2]:
        columns[name] = pa.array(np.round(random.random(GROUP) * 1000, 2))
    for name in NUMBERS[2:]:
        columns[name] = pa.array(random.random(GROUP))
    for name in COUNTS:
        columns[name] = pa.array(random.integers(0, 10**6, GROUP))
    return pa.table(columns)


def write(path: Path, rows: int) -> None:
    """Write the first `rows` users; in pieces, so that any number of them takes the same memory."""
    kind, schema = "".join(path.suffixes), _group(0).schema
    if kind == ".expected":
        with path.open("w", encoding="utf-8") as file:
            for table in groups(rows):
                file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
        return
    with (
        pa_csv.CSVWriter(path, schema, write_options=_CSV)
        if kind == ".csv"
        else pq.ParquetWriter(path, schema) as writer
    ):
        for table in groups(rows):
            writer.write_table(_CHANGES.get(kind, lambda same: same)(table))


def _in_the_world(table: pa.Table) -> pa.Table:
    """The same users with texts outside ASCII: in one column in two of five rows."""
    names = table["language"]
    for plain, own in _OWN_NAMES.items():
        names = pc.replace_substring(names, plain, own)
    return table.set_column(table.schema.get_field_index("language"), "language", names)


def _changed(table: pa.Table) -> pa.Table:
    """The same users, of whom every 50th has another plan."""
    other = pc.if_else(pa.array(np.arange(len(table)) % EVERY == 0), "changed", table["plan"])
    return table.set_column(table.schema.get_field_index("plan"), "plan", other)


_CHANGES = {".world.parquet": _in_the_world, ".changed.parquet": _changed}


def job(kind: str) -> dict[str, object]:
    """The job file for `parquet` or `csv`; CSV has no types, so there the job says them.

    They compare nothing, as other programs have nothing like it. Those for `user` and `property` do.
    """
    types = dict.fromkeys(NUMBERS, "number") | dict.fromkeys(COUNTS, "integer") if kind == "csv" else {}
    properties = {
        name: {"column": name, "type": types[name]} if name in types else name for name in PROPERTIES
    }
    fields = {name: name for name in FIELDS}
    return {
        "name": f"bench-{kind}",
        "partial_families": "reset",
        "changes": "off" if kind in {"parquet", "csv"} else kind,
        "identification": {"user_id": "id", "user_properties": properties, **fields},
    }


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
