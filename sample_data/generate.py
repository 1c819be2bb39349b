"""Writes the sample files, the same ones every time: invented people, and files with one known fault each.

Run it with `python sample_data/generate.py`. The job files and the README beside it are written by hand.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

SEED: Final = 20240229
CSV_USERS: Final = 488
CSV_REPEATED: Final = 12
PARQUET_USERS: Final = 2000
CUSTOMERS: Final = 300
ROW_GROUP: Final = 500

FIRST_NAMES: Final = (
    "Ada", "Björn", "Chloé", "Đorđe", "Eve", "Femi", "Gülşen", "Hana", "Iñigo", "Jörg", "Kei", "Łucja",
)  # fmt: skip
LAST_NAMES: Final = (
    "O'Hara", "Müller", "Nguyễn", "Østergård", "Papadópoulos", "Quirós", 'Rock "Rocky" Smith', "山田",
)  # fmt: skip
PLANS: Final = ("free", "starter", "team", "enterprise")
TAGS: Final = ("beta tester", "newsletter", "partner", "churn risk", "champion", "VIP")
GERMANY: Final = ("Germany", "Berlin", "Berlin")
JAPAN: Final = ("Japan", "Kantō", "東京")
BRAZIL: Final = ("Brazil", "Paraná", "Curitiba")
PLACES: Final = (GERMANY, JAPAN, BRAZIL)
COMPANIES: Final = ("Acme, Inc.", "Umbrella; Sons", "Initech", "Hooli | Labs")
NOTES: Final = (
    "",
    "Called twice,\nwill call again.",
    'Said: "not now".',
    "Prefers e-mail\r\nto the phone.",
    "<b>angle brackets</b> & ampersands = 100 % fine + more",
)
CSV_COLUMNS: Final = (
    "customer_id", "email", "first_name", "last_name", "plan", "mrr_eur", "logins", "newsletter", "signed_up",
    "birthdate", "last_seen", "tags", "company", "postcode", "language", "country", "region", "city", "dma",
    "preferences", "note",
)  # fmt: skip


# --- the good files --------------------------------------------------------------------------------------


def people(count: int, dice: random.Random) -> list[dict[str, str]]:
    """Rows of users.csv: every user once, then some of them again with another plan."""
    rows = [person(number, dice) for number in range(1, count + 1)]
    again = [dict(row) for row in dice.sample(rows, CSV_REPEATED)]
    for row in again:
        row.update(plan=dice.choice(PLANS), logins=str(dice.randrange(500)), email="")
    return rows + again


def person(number: int, dice: random.Random) -> dict[str, str]:
    """One row of users.csv."""
    first, last = dice.choice(FIRST_NAMES), dice.choice(LAST_NAMES)
    country, region, city = dice.choice(PLACES)
    born, signed_up, last_seen = moments(dice)
    return {
        "customer_id": f"C-{number:05d}",
        "email": f" Person{number}@Example.com" if number % 50 == 0 else f"person{number}@example.com",
        "first_name": first,
        "last_name": last,
        "plan": dice.choice(PLANS),
        "mrr_eur": f"{dice.randrange(0, 90000) / 100:.2f}".replace(".", ",") if number % 4 else "",
        "logins": str(dice.randrange(500)),
        "newsletter": dice.choice(("yes", "no", "")),
        "signed_up": signed_up.isoformat(),
        "birthdate": f"{born:%d.%m.%Y}" if number % 3 else "",
        "last_seen": last_seen.strftime("%Y-%m-%dT%H:%M:%S+02:00"),
        "tags": ";".join(dice.sample(TAGS, dice.randrange(4))),
        "company": dice.choice(COMPANIES),
        "postcode": f"{dice.randrange(100000):05d}",
        "language": dice.choice(("de", "ja", "pt-BR")),
        "country": country,
        "region": region,
        "city": city,
        "dma": "",
        "preferences": dice.choice(("", '{"theme": "dark"}', '{"theme": "light", "mails": [1, 7]}')),
        "note": dice.choice(NOTES),
    }


def moments(dice: random.Random) -> tuple[date, date, datetime]:
    """A date of birth, a date of signing up, and a last visit after it."""
    born = date(1950, 1, 1) + timedelta(days=dice.randrange(20000))
    signed_up = date(2019, 1, 1) + timedelta(days=dice.randrange(1500))
    last_seen = datetime(2024, 1, 1) + timedelta(seconds=dice.randrange(5_000_000))
    return born, signed_up, last_seen


def accounts(count: int, dice: random.Random) -> pa.Table:
    """The rows of users.parquet, with types that CSV doesn't have."""
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    rows = range(count)
    return pa.table(
        {
            "user_id": pa.array([f"acct-{number:06d}" for number in rows]),
            "device_id": pa.array([f"device-{dice.randrange(10**9):09d}" for _ in rows]),
            "email": pa.array(
                [None if number % 40 == 7 else f"account{number}@example.com" for number in rows]
            ),
            "plan": pa.array([dice.choice(PLANS) for _ in rows]).dictionary_encode(),
            "mrr": pa.array([_money(dice) for _ in rows], pa.decimal128(9, 2)),
            "seats": pa.array([dice.randrange(1, 400) for _ in rows], pa.int32()),
            "health": pa.array([round(dice.random(), 3) if number % 9 else None for number in rows]),
            "active": pa.array([dice.random() < 0.8 for _ in rows]),
            "created_at": pa.array(
                [moment + timedelta(seconds=dice.randrange(10**8)) for _ in rows], pa.timestamp("us", "UTC")
            ),
            "renews_on": pa.array([date(2025, 1, 1) + timedelta(days=dice.randrange(700)) for _ in rows]),
            "interests": pa.array(
                [dice.sample(TAGS, dice.randrange(4)) or None for _ in rows], pa.list_(pa.string())
            ),
            "address": pa.array([_address(dice) for _ in rows], _ADDRESS),
            "legacy_plan": pa.nulls(count, pa.string()),
        }
    )


_ADDRESS: Final = pa.struct([("city", pa.string()), ("zip", pa.string()), ("floor", pa.int8())])


def _money(dice: random.Random) -> Decimal | None:
    return Decimal(dice.randrange(10**7)) / 100 if dice.random() < 0.9 else None


def _address(dice: random.Random) -> dict[str, str | int | None] | None:
    if dice.random() < 0.2:
        return None
    floor = dice.randrange(20) if dice.random() < 0.5 else None
    return {"city": dice.choice(PLACES)[2], "zip": f"{dice.randrange(100000):05d}", "floor": floor}


# --- a messy export ----------------------------------------------------------------------------------------

_HEAD: Final = (
    "Kunden-Nr", "E-Mail", "Tarif", "Umsatz (€)", "Kunde seit", "Newsletter", "Tags", "Land", "PLZ",
    "Zufriedenheit", "Notiz",
)  # fmt: skip
_NO_ID: Final = {23: "", 61: "", 97: "NULL", 131: "", 170: "17", 208: "NULL", 251: ""}


def customers(count: int, dice: random.Random) -> bytes:
    """The export of a German shop as people have it; its last record is cut off."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
    writer.writerow(_HEAD)
    for number in range(1, count):
        # Some customers have an older row.
        key = dice.randrange(1, number) if number % 9 == 0 else number
        own = random.Random(key)
        writer.writerow(
            [
                _NO_ID.get(number, f" k{100000 + key} " if number % 40 == 7 else f"K{100000 + key}"),
                f"{own.choice(('jörg', 'zoë', 'anna', 'käthe', 'ömer'))}.{key}@example.de",
                dice.choice(("free", "Pro", "pro", "TEAM", "Team", "k.A.", "")),
                "auf Anfrage" if number % 71 == 5 else dice.choice(("k.A.", *[_euros(dice)] * 9)),
                "unbekannt" if number % 67 == 9 else _since(dice),
                dice.choice(("Ja", "ja", "nein", "nein", "")),
                ", ".join(dice.sample(("beta", "newsletter", "VIP", "Käse"), dice.randrange(4))),
                own.choice(("DE", "DE", "AT", "CH", "NULL")),
                f"{own.randrange(1000, 99999):05}",
                dice.choice(("", "3", "4", "4,5", "5")),
                'Rief an: "kommt wieder";\nbitte nicht per Mail' if number % 37 == 0 else "",
            ]
        )
    text.write(f'K{100000 + count};;pro;;;;;DE;10115;;"Rief an: bitte')
    return text.getvalue().encode("cp1252")


def _euros(dice: random.Random) -> str:
    whole, cents = divmod(dice.randrange(500, 400_000), 100)
    amount = f"{whole:,}".replace(",", ".") + f",{cents:02}"
    return f"EUR {amount}" if cents % 11 == 0 else f"{amount} €"


def _since(dice: random.Random) -> str:
    day = date(2019, 1, 1) + timedelta(days=dice.randrange(2000))
    kind = dice.choice((0, 0, 0, 1, 2))
    return (f"{day:%d.%m.%Y}", f"{day:%Y-%m-%d}", f"{day.month}/{day.day}/{day:%y}")[kind]


# --- files with a fault ----------------------------------------------------------------------------------

_HEADER: Final = ("user_id", "plan", "mrr_usd", "born", "note")
_GOOD: Final = (
    ("user-0001", "free", "0", "1984-05-01", ""),
    ("user-0002", "team", "49.50", "1990-12-31", "pays in time"),
    ("user-0003", "team", "99", "", "two seats"),
    ("user-0004", "free", "", "2001-02-28", ""),
    ("user-0005", "starter", "12.25", "1975-10-10", "asked for a refund"),
    ("user-0006", "free", "0", "1999-09-09", ""),
)


def faulty() -> dict[str, bytes]:
    """The content of each file in faulty/ by its name."""
    return {**_faulty_files(), **_faulty_values(), **_faulty_parquet()}


def _faulty_files() -> dict[str, bytes]:
    good = _csv(_GOOD)
    lines = good.decode().splitlines(keepends=True)
    ragged = [
        *lines[:2],
        "user-0002,team\n",
        *lines[3:5],
        "user-0005,starter,12.25,1975-10-10,a,b,c\n",
        lines[6],
    ]
    objects = [dict(zip(_HEADER, row, strict=True)) for row in _GOOD]
    ndjson = [_json_line(one) for one in objects]
    return {
        "ragged-row.csv": "".join(ragged).encode(),
        "bad-encoding.csv": _changed({2: ("note", "zwölf"), 4: ("note", "für später")}).replace(
            "später".encode(), "später".encode("latin-1")
        ),
        "unclosed-quote.csv": good.replace(b"two seats", b'"two seats'),
        "duplicate-header.csv": good.replace(b"mrr_usd", b"plan", 1),
        "nameless-column.csv": good.replace(b",note", b",", 1),
        "empty.csv": b"",
        "header-only.csv": lines[0].encode(),
        "semicolon.csv": good.replace(b",", b";"),
        "latin-1.csv": _changed({1: ("note", "Zürich"), 5: ("note", "Málaga")}).decode().encode("latin-1"),
        "bad-line.ndjson": "".join(
            [*ndjson[:3], '{"user_id": "user-0004", "plan": \n', *ndjson[4:]]
        ).encode(),
    }


def _faulty_values() -> dict[str, bytes]:
    ids = {1: "", 2: "NULL", 3: "unknown", 4: "00000000-0000-0000-0000-000000000000"}
    return {
        "short-ids.csv": _changed({row: ("user_id", str(row)) for row in range(1, 7)}),
        "refused-ids.csv": _changed({row: ("user_id", id_) for row, id_ in ids.items()}),
        "bad-numbers.csv": _changed({2: ("mrr_usd", "49,50"), 5: ("mrr_usd", "n/a"), 6: ("mrr_usd", "inf")}),
        "impossible-dates.csv": _changed({1: ("born", "1984-02-30"), 4: ("born", "28.02.2001")}),
        "too-long-values.csv": _changed({3: ("note", "ü" * 1024), 5: ("note", "ü" * 1025)}),
    }


def _faulty_parquet() -> dict[str, bytes]:
    columns = zip(_HEADER, zip(*_GOOD, strict=True), strict=True)
    sink = io.BytesIO()
    pq.write_table(pa.table({name: list(values) for name, values in columns}), sink)
    whole = sink.getvalue()
    return {"truncated.parquet": whole[: len(whole) // 2], "not-parquet.parquet": _csv(_GOOD)}


def _changed(changes: Mapping[int, tuple[str, str]]) -> bytes:
    """The good rows as CSV with other values: row number -> column and value."""
    rows = [list(row) for row in _GOOD]
    for number, (column, value) in changes.items():
        rows[number - 1][_HEADER.index(column)] = value
    return _csv(rows)


# --- writing ---------------------------------------------------------------------------------------------


def _csv(rows: Iterable[Sequence[str]], header: Sequence[str] = _HEADER) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def _json_line(values: Mapping[str, str]) -> str:
    members = ", ".join(f'"{name}": "{value}"' for name, value in values.items())
    return f"{{{members}}}\n"


def write(folder: Path) -> None:
    """Write all sample files into `folder`."""
    dice = random.Random(SEED)
    rows = people(CSV_USERS, dice)
    content = _csv([[row[name] for name in CSV_COLUMNS] for row in rows], CSV_COLUMNS)
    (folder / "faulty").mkdir(parents=True, exist_ok=True)
    (folder / "users.csv").write_bytes(content)
    table = accounts(PARQUET_USERS, dice)
    pq.write_table(table, folder / "users.parquet", row_group_size=ROW_GROUP, compression="zstd")
    (folder / "kunden.csv").write_bytes(customers(CUSTOMERS, random.Random(SEED)))
    for name, data in faulty().items():
        (folder / "faulty" / name).write_bytes(data)


if __name__ == "__main__":
    write(Path(__file__).parent)
