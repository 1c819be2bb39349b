"""The users that every contender sends: the same rows in Parquet and CSV, whoever makes them and when.

    python -m bench.data FILE ROWS

The ending says what: `.parquet`, `.csv`, or `.expected`, which is what has to arrive. Before it may stand
`.names`: texts as people have them, of which half are outside ASCII, with quotes, line ends, `&`, `+` and
`%`; `.latin`: the same rows, with all texts in ASCII; and `.changed`: every 50th user has another plan.
`.wide` has 12,000 columns.

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
WIDE = 12_000
FIELDS = ("platform", "os_name", "app_version", "language")
NUMBERS = ("mrr_usd", "lifetime_usd", "churn_score", "engagement")
COUNTS = ("logins", "seats", "days_active")

_WORDS = {
    "plan": ["free", "pro", "team", "enterprise"],
    "channel": [f"campaign {number:03d} & partners" for number in range(1000)],
    "platform": ["iOS", "Android", "Web"],
    "os_name": ["ios", "android", "windows", "macos", "linux"],
    "app_version": [f"{major}.{minor}.0" for major in range(1, 6) for minor in range(20)],
    "language": ["English", "German", "French", "Portuguese", "Japanese"],
}
# Each text as people write it, and in ASCII.
_GIVEN = [
    *[("Jürgen", "Juergen"), ("Zoë", "Zoe"), ("João", "Joao"), ("さくら", "Sakura"), ("健太", "Kenta")],
    *[("Łukasz", "Lukasz"), ("Søren", "Soren"), ("Анна", "Anna"), ("Mary", "Mary"), ("Peter", "Peter")],
    *[("Noah", "Noah"), ("Grace", "Grace"), ("Tom", "Tom"), ("李娜", "Li Na"), ("Emma", "Emma")],
]
_FAMILY = [
    *[("Müller", "Mueller"), ("Gonçalves", "Goncalves"), ("田中", "Tanaka"), ("O'Brien", "O'Brien")],
    *[("Nuñez", "Nunez"), ("Schmidt", "Schmidt"), ("Smith", "Smith"), ("Иванов", "Ivanov")],
    *[("Costa", "Costa"), ("渡辺", "Watanabe"), ("Jones", "Jones"), ("van Dijk", "van Dijk")],
]
_INITIALS = [f"{letter}." for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
_TOWNS = [
    *[
        ("São Paulo", "Sao Paulo"),
        ("München", "Munich"),
        ("東京都渋谷区", "Shibuya, Tokyo"),
        ("Köln", "Koln"),
    ],
    *[("Porto", "Porto"), ("Berlin", "Berlin"), ("大阪市", "Osaka"), ("London", "London"), ("Łódź", "Lodz")],
    *[("Ribeirão Preto", "Ribeirao Preto"), ("Leeds", "Leeds"), ("Düsseldorf", "Dusseldorf")],
]
_COMPANIES = [
    *[('Café "Zum Löwen" & Co', 'Cafe "Zum Lowen" & Co'), ("Smith & Sons", "Smith & Sons")],
    *[("50% + Mehr GmbH", "50% + Mehr GmbH"), ("株式会社山田", "Yamada Corp."), ("Acme Inc.", "Acme Inc.")],
    *[("Padaria São José", "Padaria Sao Jose"), ("C++ & More", "C++ & More"), ("Bücher+", "Buecher+")],
]
_NOTES = [
    *[("möchte 20 % Rabatt,\nruft zurück", "wants a discount of 20 %,\ncalls back"), ("", "")],
    *[('said "not now"', 'said "not now"'), ("電話してください。\r\n急ぎ", "Please give a call.\r\nurgent")],
    *[("call + mail", "call + mail"), ("não ligar & só e-mail", "no calls & only mail"), ("VIP", "VIP")],
]
_LANGUAGES = [
    *[("Português", "Portuguese"), ("日本語", "Japanese"), ("English", "English"), ("Deutsch", "German")],
    *[("Français", "French"), ("Русский", "Russian")],
]
_CSV = pa_csv.WriteOptions(quoting_style="needed")


def groups(rows: int, people: int | None = None) -> Iterator[pa.Table]:
    """Tables of at most GROUP rows: an id, six strings, four doubles, three integers.

    `people` 0: the strings are as people write them; 1: the same in ASCII; None: codes and words.
    """
    for number, first in enumerate(range(0, rows, GROUP)):
        yield _group(number, people).slice(0, min(GROUP, rows - first))


def _group(number: int, people: int | None) -> pa.Table:
    random = np.random.default_rng([4, number])
    first = number * GROUP
    digits = pc.utf8_lpad(pa.array(np.arange(first, first + GROUP)).cast(pa.string()), 9, "0")
    columns = {"id": pc.binary_join_element_wise("user", digits, "-")}

    def any_of(texts: list[str] | list[tuple[str, str]]) -> pa.Array:
        words = [text if isinstance(text, str) else text[people or 0] for text in texts]
        return pa.array(words).take(pa.array(random.integers(0, len(words), GROUP)))

    if people is None:
        columns |= {name: any_of(words) for name, words in _WORDS.items()}
    else:
        names = [any_of(_GIVEN), any_of(_INITIALS), any_of(_INITIALS), any_of(_FAMILY)]
        columns["name"] = pc.binary_join_element_wise(*names, " ")
        columns |= {"town": any_of(_TOWNS), "company": any_of(_COMPANIES)}
        calls = pa.array(random.integers(1000, 10_000, GROUP)).cast(pa.string())
        columns["note"] = pc.binary_join_element_wise(calls, any_of(_NOTES), ": ")
        columns |= {"plan": any_of(_WORDS["plan"]), "language": any_of(_LANGUAGES)}
    for name in NUMBERS[:2]:
        columns[name] = pa.array(np.round(random.random(GROUP) * 1000, 2))
    for name in NUMBERS[2:]:
        columns[name] = pa.array(random.random(GROUP))
    for name in COUNTS:
        columns[name] = pa.array(random.integers(0, 10**6, GROUP))
    return pa.table(columns)


def write(path: Path, rows: int) -> None:
    """Write the first `rows` users; in pieces, so that any number of them takes the same memory."""
    *parts, kind = path.suffixes
    if ".wide" in parts:
        tables = iter([_wide(rows)])
    else:
        tables = groups(rows, 0 if ".names" in parts else 1 if ".latin" in parts else None)
    if ".changed" in parts:
        tables = map(_changed, tables)
    if kind == ".expected":
        with path.open("w", encoding="utf-8") as file:
            for table in tables:
                file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
        return
    first = next(tables)
    with (
        pa_csv.CSVWriter(path, first.schema, write_options=_CSV)
        if kind == ".csv"
        else pq.ParquetWriter(path, first.schema) as writer
    ):
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _changed(table: pa.Table) -> pa.Table:
    """The same users, of whom every 50th has another plan."""
    other = pc.if_else(pa.array(np.arange(len(table)) % EVERY == 0), "changed", table["plan"])
    return table.set_column(table.schema.get_field_index("plan"), "plan", other)


def _wide(rows: int) -> pa.Table:
    """Users with WIDE columns beside the id: whole numbers, decimal numbers and texts by turns."""
    (users,) = groups(rows)
    kinds = [users[name] for name in ("logins", "mrr_usd", "plan", "language")]
    columns = {f"column_{number}": kinds[number % len(kinds)] for number in range(WIDE)}
    return pa.table({"id": users["id"], **columns})


def job(users: str, kind: str, changes: str = "off") -> dict[str, object]:
    """The job file for the users `plain` or `names` in `parquet` or `csv`.

    CSV has no types, so there the job says them. Beside other programs nothing is compared, as they have
    nothing like it.
    """
    (table,) = groups(1, None if users == "plain" else 0)
    names = table.schema.names
    types = dict.fromkeys(NUMBERS, "number") | dict.fromkeys(COUNTS, "integer") if kind == "csv" else {}
    properties = {
        name: {"column": name, "type": types[name]} if name in types else name
        for name in names
        if name not in {"id", *FIELDS}
    }
    fields = {name: name for name in FIELDS if name in names}
    return {
        "name": f"bench-{users}-{kind}-{changes}",
        "partial_families": "reset",
        "changes": changes,
        "identification": {"user_id": "id", "user_properties": properties, **fields},
    }


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
