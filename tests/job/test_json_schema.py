from __future__ import annotations

from jsonschema import Draft202012Validator

from etl.amplitude.requests import FIELDS, OPERATORS, TIME_FIELD
from etl.job.loading import read_document
from etl.job.scalars import resolved
from etl.job.spec import job_schema
from tests.examples import each_row
from tests.job.job_texts import job, keys
from tests.job.test_problems import EVERYTHING_WRONG

SCHEMA = Draft202012Validator(job_schema())


def allows(text: str) -> bool:
    return SCHEMA.is_valid(resolved(read_document(text).data))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(job_schema())
    assert job_schema()["$schema"] == Draft202012Validator.META_SCHEMA["$schema"]


def test_every_key_is_in_it_and_explained() -> None:
    schema = job_schema()
    assert keys("Identification") == {*FIELDS, TIME_FIELD}
    assert keys("Operators") == set(OPERATORS)
    for shape in (schema, *schema["$defs"].values()):
        for key, value in shape["properties"].items():
            assert (
                "description" in value or "description" in schema["$defs"][value["$ref"].rpartition("/")[2]]
            ), key


@each_row(
    "text",
    [
        "identification: {user_id: id}",
        "identification: {user_id: 2024, language: true}",
        "identification: {device_id: {column: 2024}}",
        "identification: {user_id: a, user_properties: {$set: {b: c}, $unset: [d], $clearAll: true}}",
        "identification: {user_id: a, user_properties: {b: {column: c, transform: trim}}}",
        "identification: {user_id: a, user_properties: {b: {column: c, transform: [trim, {prefix: x}]}}}",
        "identification: {user_id: a, user_properties: {b: {value: [1, {c: d}]}}}",
        "identification: {user_id: a, user_properties: {}}\nsource: [a, b]\ncsv: {delimiter: ;}",
        "identification: {user_id: a}\nrun: {rate: 2000, max_rejects: 1%, min_rows: 5, full: true}",
        "identification: {user_id: a}\nrun: {rate: max, max_outage: 90s, report: a.html, rejects: b.csv}",
    ],
)
def test_what_a_job_file_may_say_the_schema_allows(text: str) -> None:
    assert job(text)
    assert allows(text)


@each_row(
    "text",
    [
        "source: a",
        "identification: {}",
        "identification: {user_properties: {a: b}}",
        "identification: {user_id: a, usr: b}",
        "identification: {user_id: a}\nnam: b",
        "identification: {user_id: a}\napi_key: b",
        "identification: {user_id: ''}",
        "identification: {user_id: [a]}",
        "identification: {user_id: {column: a, typ: date}}",
        "identification: {user_id: {column: a, type: float}}",
        "identification: {user_id: {column: a, transform: [tirm]}}",
        "identification: {user_id: {column: a, transform: [{prefix: b, replace: {c: d}}]}}",
        "identification: {user_id: {column: a, transform: [{}]}}",
        "identification: {user_id: a, user_properties: {$set: {b: c}, d: e}}",
        "identification: {user_id: a, user_properties: {$sett: {b: c}}}",
        "identification: {user_id: a}\ndestination: {transport: udp}",
        "identification: {user_id: a}\npartial_families: rest",
        "identification: {user_id: a}\nrun: {rat: 5}",
        "identification: {user_id: a}\nrun: {log_format: xml}",
        EVERYTHING_WRONG,
    ],
)
def test_what_no_job_file_may_say_the_schema_rejects(text: str) -> None:
    assert not allows(text)
