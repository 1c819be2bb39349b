from __future__ import annotations

import pytest

from etl.errors import JobError
from etl.job.spec import Job
from tests.examples import each_row
from tests.job.job_texts import column, column_fault, fault, job


@each_row(
    ("spec", "message"),
    [
        ("{column: a, nulls: []}", "`nulls` is empty; fill it in"),
        ("{column: a, nulls: ['-', ' -']}", "`nulls` has `-` twice"),
        ("{value: a, nulls: ['-']}", "`nulls` does nothing for a constant"),
        ("{value: a, invalid: skip}", "`invalid` does nothing for a constant"),
        ("{column: a, transform: [trim, trim]}", "`trim` does nothing before `trim`"),
        ("{column: a, transform: [upper, lower]}", "`upper` does nothing before `lower`"),
        (
            "{column: a, type: boolean, transform: [lower, trim]}",
            "`lower` does nothing before `type: boolean`",
        ),
        (
            "{column: a, transform: [lower], values: {Ja: true}}",
            "`Ja` never comes out of `lower`; write `ja`",
        ),
        ("{column: a, nulls: ['-'], values: {'-': 0}}", "`-` does nothing: it means null"),
        ("{column: a, unit: ms}", "`unit` does nothing without `type: datetime`"),
        ("{column: a, type: number, unit: ms}", "`unit` does nothing without `type: datetime`"),
        (
            "{column: a, type: date, unit: ms, transform: {date_format: '%Y-%m-%d'}}",
            "`unit` does nothing beside `date_format`",
        ),
        ("{column: a, timezone: Europe/Berlin}", "`timezone` does nothing without `type: datetime`"),
        (
            "{column: a, type: datetime, unit: s, timezone: Europe/Berlin}",
            "`timezone` does nothing beside `unit`",
        ),
        (
            "{column: a, type: date, timezone: Asia/Tokyo, transform: {date_format: ['%d.%m.%Y', '%Y%m%d']}}",
            "`timezone` does nothing here: the dates of `date_format` have no time",
        ),
        (
            "{column: a, timezone: Asia/Tokyo, transform: [{date_format: '%Y%m%d %H'}, lower]}",
            "`timezone` needs `date_format` to be the last step",
        ),
        ("{column: a, type: date, transform: {date_format: ['%Y', '%Y']}}", "`date_format` has `%Y` twice"),
        ("{column: a, type: date, transform: {date_format: []}}", "`date_format` is empty"),
        ("{column: a, type: date, transform: {date_format: ['%d.%m']}}", "`date_format` must have the year"),
        (
            "{column: a, type: datetime, timezone: europe/berlin}",
            "`timezone` is `europe/berlin`, which is not a time zone; "
            "use a name such as Europe/Berlin or UTC; "
            "did you mean `Europe/Berlin`?",
        ),
        ("{column: a, type: datetime, timezone: ../../etc/passwd}", "which is not a time zone"),
        ("{column: a, type: datetime, unit: sec}", "`unit` is `sec`; it must be `s`, `ms`, `us` or `ns`"),
        ("{column: a, invalid: drop}", "`invalid` is `drop`; it must be `reject` or `skip`"),
    ],
)
def test_in_a_property(spec: str, message: str) -> None:
    assert message in column_fault(spec)


def test_an_id_is_never_skipped() -> None:
    line, message = fault(
        "identification:\n  user_id:\n    column: id\n    invalid: skip\n  groups: {a: b}\n"
    )
    assert (line, message.split(";")[0]) == (4, "`invalid: skip` can't be used here")


def test_words_for_null_of_the_job_and_of_a_column_add_up() -> None:
    made = job(
        """
        nulls: [NULL, " k.A. ", -999]
        identification: {user_id: id, user_properties: {p: {column: v, nulls: unknown}, q: {value: x}}}
        """
    ).identification
    properties = made.operators["$set"]
    assert made.fields["user_id"].nulls == ("-999", "NULL", "k.A.")
    assert properties["p"].nulls == ("-999", "NULL", "k.A.", "unknown")
    assert properties["q"].nulls == ()
    assert fault("nulls:\nidentification: {user_id: id}\n")[0] == 1
    assert fault("nulls: []\nidentification: {user_id: id}\n")[0] == 1
    assert fault("nulls: [{a: b}]\nidentification: {user_id: id}\n") == (1, "`nulls` must be text")


def test_one_format_in_a_list_is_one_format() -> None:
    alone = column("{column: v, transform: {date_format: '%d.%m.%Y'}}")
    assert column("{column: v, transform: {date_format: ['%d.%m.%Y']}}") == alone


@each_row(
    ("spec", "message"),
    [
        ("{column: a, decimal: ','}", "`decimal` does nothing without `type: number`"),
        ("{column: a, type: string, strip: '€'}", "`strip` does nothing without `type: number`"),
        ("{column: a, type: date, thousands: '.'}", "`thousands` does nothing without `type: number`"),
        ("{column: a, type: number, thousands: '.'}", "`thousands` and `decimal` are both `.`"),
        ("{column: a, type: number, decimal: ',', thousands: ','}", "`thousands` and `decimal` are both `,`"),
        ("{column: a, type: number, decimal: ',,'}", '`decimal` must be one sign such as ","'),
        ("{column: a, type: number, decimal: '5'}", "`decimal` must be one sign"),
        ("{column: a, type: number, thousands: '-'}", "`thousands` must be one sign"),
        ("{column: a, type: number, strip: '€-'}", "`strip` must be characters such as `€`"),
        ("{column: a, type: number, strip: ''}", "`strip` must be characters such as `€`"),
        ("{column: a, type: number, decimal: ',', values: {x: 1}}", "`decimal` does nothing beside `values`"),
        ("{column: a, values: {}}", "`values` is empty"),
        ("{column: a, values: {x: 1, ' x': 2}}", "`x` stands in `values` twice"),
        ("{column: a, values: {x: [1]}}", "`x` must stand for text, a number, true, false or null"),
        ("{column: a, type: number, values: {x: much}}", "`x` must be a number"),
        ("{column: a, type: boolean, values: {x: 1}}", "`x` must be true or false"),
        ("{column: a, type: list, values: {x: y}}", "`values` can't be used with `type: list`"),
        ("{value: a, values: {x: y}}", "`values` does nothing for a constant"),
    ],
)
def test_of_numbers_and_words(spec: str, message: str) -> None:
    assert message in column_fault(spec)


def test_words_are_kept_as_what_they_stand_for() -> None:
    values = column("{column: a, values: {Ja : true, no: false, 1: 1.50, x: 'true', y: null}}").values
    assert values == (("1", "1.5"), ("Ja", "true"), ("no", "false"), ("x", '"true"'), ("y", "null"))
    assert column("{column: a, decimal: ',', strip: '%'}", under="$add").type == "number"


def test_an_id_has_no_words() -> None:
    text = "identification:\n  user_id:\n    column: id\n    values: {a: b}\n  groups: {a: b}\n"
    line, message = fault(text)
    assert (line, message.split(";")[0]) == (4, "`values` can't be used here")


@pytest.mark.parametrize(
    "spec",
    [
        "{column: a, transform: [trim, lower, trim]}",
        "{column: a, type: number, strip: chf, transform: [lower]}",
        "{column: a, type: boolean, transform: [lower], values: {ja: true}}",
        "{column: a, nulls: ['-'], values: {'-': null}}",
        "{column: a, nulls: ['ja'], transform: [lower], values: {ja: true}}",
    ],
)
def test_steps_and_words_that_may_have_an_effect_are_no_fault(spec: str) -> None:
    assert column(spec).column == "a"


@pytest.mark.parametrize("verb", ["prefix", "replace", "date_format"])
def test_a_step_of_a_program_needs_its_argument_too(verb: str) -> None:
    spec = {"column": "a", "transform": [{verb: None}]}
    with pytest.raises(JobError) as caught:
        Job.of({"identification": {"user_id": spec}})
    assert f"needs an argument for `{verb}`" in str(caught.value.faults[0].message)
