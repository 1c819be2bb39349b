from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from etl.job.spec import fingerprint
from tests.examples import each_row
from tests.job.job_texts import job

IDENTIFICATION = (
    "identification: {user_id: id, user_properties: {a: {column: b, transform: [trim, lower]}}}\n"
)
BASE = fingerprint(job(IDENTIFICATION))


def test_a_fingerprint_is_hex_and_stays() -> None:
    assert re.fullmatch("[0-9a-f]{64}", BASE)
    assert fingerprint(job(IDENTIFICATION)) == BASE


@each_row(
    "text",
    [
        f"name: other\n{IDENTIFICATION}",
        f"source: other.csv\n{IDENTIFICATION}",
        f"api_key_env: OTHER\n{IDENTIFICATION}",
        f"api_key_file: other\n{IDENTIFICATION}",
        f"# a comment\n{IDENTIFICATION}destination: {{region: us}}\ncsv: {{encoding: UTF8}}\n",
        IDENTIFICATION.replace("{column: b,", "{null: skip, column: b,"),
        IDENTIFICATION.replace("user_properties: {", "user_properties: {$set: {").replace("}}}", "}}}}"),
    ],
)
def test_what_changes_nothing_that_is_sent_changes_no_fingerprint(text: str) -> None:
    assert fingerprint(job(text)) == BASE


def test_where_the_file_lies_changes_no_fingerprint() -> None:
    assert fingerprint(replace(job(IDENTIFICATION), folder=Path("elsewhere"))) == BASE


@each_row(
    ("old", "new"),
    [
        ("user_id", "device_id"),
        ("user_id: id", "user_id: id2"),
        ("a: {", "c: {"),
        ("column: b", "column: c"),
        ("column: b", "column: b, type: string"),
        ("column: b", "column: b, null: unset"),
        ("column: b", "column: b, empty: keep"),
        ("column: b", "column: b, too_long: truncate"),
        ("column: b", "column: b, default: ''"),
        ("column: b", "column: b, nulls: ['-']"),
        ("column: b", "column: b, invalid: skip"),
        ("column: b", "column: b, path: x"),
        ("column: b", "column: b, values: {x: y}"),
        ("transform: [trim, lower]", "type: number, decimal: ','"),
        ("transform: [trim, lower]", "type: number, thousands: ' '"),
        ("column: b", "column: b, type: number, strip: '%'"),
        ("column: b", "column: b, type: datetime, timezone: Asia/Tokyo"),
        ("column: b", "column: b, type: datetime, unit: s"),
        ("identification", "nulls: ['-']\nidentification"),
        ("identification", "csv: {header: false}\nidentification"),
        ("identification", "csv: {header: [a, b]}\nidentification"),
        ("identification", "csv: {skip_rows: 1}\nidentification"),
        ("[trim, lower]", "[trim, {date_format: ['%Y', '%y']}]"),
        ("[trim, lower]", "[lower, trim]"),
        ("[trim, lower]", "[trim, lower, {replace: {a: b, c: d}}]"),
        ("[trim, lower]", "[trim, lower, {replace: {c: d, a: b}}]"),
        ("{column: b, transform: [trim, lower]}", "{value: b}"),
        ("user_properties: {", "groups: {a: b}, user_properties: {"),
        ("user_properties: {", "user_properties: {$unset: [x], $set: {"),
        ("user_properties: {", "user_properties: {$clearAll: true, $set: {"),
        ("user_properties: {", "user_properties: {$setOnce: {"),
        ("identification", "transform: a:b\nidentification"),
        ("identification", "partial_families: reset\nidentification"),
        ("identification", "csv: {delimiter: ';'}\nidentification"),
        ("identification", "csv: {encoding: latin-1}\nidentification"),
        ("identification", "csv: {quote: '|'}\nidentification"),
        ("identification", "destination: {region: eu}\nidentification"),
        ("identification", "destination: {transport: batch}\nidentification"),
    ],
)
def test_what_changes_what_is_sent_changes_the_fingerprint(old: str, new: str) -> None:
    text = IDENTIFICATION.replace(old, new)
    closed = text + "}" * (text.count("{") - text.count("}"))
    changed = closed if closed.count("\n") == 1 else closed.replace("}\n}", "}}")
    assert fingerprint(job(changed)) != BASE


def test_every_change_has_a_fingerprint_of_its_own() -> None:
    texts = [IDENTIFICATION.replace("b,", f"{name},") for name in ("b", "c", "'b '", "B")]
    assert len({fingerprint(job(text)) for text in texts}) == 4


def test_a_default_isnt_a_constant() -> None:
    texts = [
        f"identification: {{user_id: id, user_properties: {{a: {spec}}}}}" for spec in ("b", "{value: b}")
    ]
    assert len({fingerprint(job(text)) for text in texts}) == 2
