from __future__ import annotations

from pathlib import Path

import pytest

from etl.amplitude.requests import FIELDS, OPERATORS, TIME_FIELD
from etl.errors import JobError
from etl.job.column_spec import ColumnSpec, Step
from etl.job.loading import read_document
from etl.job.scalars import resolved
from etl.job.sections import CsvOptions, Destination
from etl.job.spec import Job, fingerprint
from tests.examples import each_row
from tests.job.job_texts import column, fault, job, keys
from tests.job.test_json_schema import SCHEMA


def test_every_key_of_the_api_can_be_given() -> None:
    assert keys("Identification") == {*FIELDS, TIME_FIELD}
    assert keys("Operators") == set(OPERATORS)


def test_a_small_job_has_every_default() -> None:
    made = job("identification: {user_id: id, user_properties: {plan: plan_name}}")
    assert (made.name, made.folder, made.source) == ("job", Path("jobs"), ())
    assert made.destination == Destination("https://api2.amplitude.com")
    assert made.csv == CsvOptions()
    assert (made.transform, made.api_key_env, made.api_key_file) == (None, "AMPLITUDE_API_KEY", None)
    assert made.identification.fields == {"user_id": ColumnSpec("id")}
    assert made.identification.operators == {"$set": {"plan": ColumnSpec("plan_name")}}
    assert made.state_dir == Path("jobs/.propsync/job")


def test_a_whole_job_becomes_what_it_says() -> None:
    made = job(
        """\
        name: nightly
        source: [a.csv, "b/*.csv"]
        csv: {delimiter: tab, encoding: Latin-1, quote: "'"}
        transform: clean.users:Tidy.rows
        api_key_file: key.txt
        destination: {region: eu, transport: identify}
        identification:
          device_id: {column: dev, transform: trim}
          user_id: id
          paying: {value: true}
          groups: {team: {value: [a, 1]}, company: org}
          user_properties:
            $remove: {old: {column: o, type: list}}
            $unset: [z, 2024]
            $add: {n: new}
            $set: {no: no}
            $clearAll: true
        """
    )
    assert (made.name, made.source, made.transform) == (
        "nightly",
        ("a.csv", "b/*.csv"),
        "clean.users:Tidy.rows",
    )
    assert made.csv == CsvOptions("\t", "iso8859-1", "'")
    assert made.api_key_file == "key.txt"
    assert made.destination == Destination("https://api.eu.amplitude.com")
    identification = made.identification
    assert list(identification.fields) == ["user_id", "device_id", "paying"]
    assert identification.fields["paying"] == ColumnSpec(constant='"true"')
    assert identification.groups == {"company": ColumnSpec("org"), "team": ColumnSpec(constant='["a","1"]')}
    assert list(identification.operators) == ["$set", "$add", "$remove"]
    assert identification.operators["$set"] == {"no": ColumnSpec("no")}
    assert identification.operators["$add"] == {"n": ColumnSpec("new", type="number")}
    assert (identification.unset, identification.clear_all) == (("2024", "z"), True)


@each_row("name", ["2024", "true", "null", "~", "no", "0x1F", "1.10", "2024-01-01", "'a b'", "'a: b'"])
def test_a_column_is_named_as_it_is_written(name: str) -> None:
    written = name.strip("'")
    assert column(name).column == written
    assert column(f"{{column: {name}}}").column == written


@each_row(
    ("value", "json_text"),
    [
        ("crm", '"crm"'),
        ("1.10", "1.1"),
        ("'1.10'", '"1.10"'),
        ("true", "true"),
        ("no", '"no"'),
        ("2024-01-01", '"2024-01-01"'),
        ("-9223372036854775808", "-9223372036854775808"),
        ("''", '""'),
        ("[]", "[]"),
        ("[a, 1, null, {b: [c]}]", '["a",1,null,{"b":["c"]}]'),
        ("{z: 1, a: true}", '{"a":true,"z":1}'),
        ("'é\"'", '"é\\""'),
    ],
)
def test_a_constant_is_kept_as_json(value: str, json_text: str) -> None:
    assert column(f"{{value: {value}}}").constant == json_text


@each_row(
    ("kind", "default", "json_text"),
    [
        ("string", "1.10", '"1.10"'),
        ("number", "1.10", "1.1"),
        ("integer", "0", "0"),
        ("boolean", "false", "false"),
        ("date", "2024-12-31", '"2024-12-31"'),
        ("datetime", "2024-12-31", '"2024-12-31T00:00:00"'),
        ("datetime", "2024-12-31T01:00:00+02:00", '"2024-12-30T23:00:00"'),
        ("list", "[a]", '["a"]'),
        ("json", "{a: [1]}", '{"a":[1]}'),
    ],
)
def test_a_default_is_of_its_type_already(kind: str, default: str, json_text: str) -> None:
    made = column(f"{{column: c, type: {kind}, default: {default}}}")
    assert (made.default, made.constant) == (json_text, None)


def test_a_blank_default_is_none() -> None:
    assert column("{column: c, default: null}") == ColumnSpec("c")


def test_steps_keep_their_order() -> None:
    steps = "[trim, {prefix: 7}, sha256, {replace: {b: no, a: ''}}, {date_format: '%d/%m/%Y'}]"
    assert column(f"{{column: c, transform: {steps}}}").transform == (
        Step("trim"),
        Step("prefix", "7"),
        Step("sha256"),
        Step("replace", pairs=(("b", "no"), ("a", ""))),
        Step("date_format", formats=("%d/%m/%Y",)),
    )


def test_every_policy_is_kept() -> None:
    made = column("{column: c, type: list, null: unset, too_long: truncate, separator: ' '}")
    assert made == ColumnSpec("c", type="list", null="unset", too_long="truncate", separator=" ")
    assert column("{column: c, empty: keep}").empty == "keep"


def test_an_added_integer_stays_one() -> None:
    assert column("{column: c, type: integer}", under="$add").type == "integer"


@pytest.mark.parametrize("blank", ["csv:", "destination:", "csv: ~"])
def test_a_section_with_nothing_in_it_is_as_good_as_none(blank: str) -> None:
    assert job(f"identification: {{user_id: id}}\n{blank}\n") == job("identification: {user_id: id}")


@each_row(
    ("region", "endpoint"),
    [
        ("us", "https://api2.amplitude.com"),
        ("eu", "https://api.eu.amplitude.com"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("HTTPS://host/a/b//", "HTTPS://host/a/b"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("${R}", "https://api.eu.amplitude.com"),
        ("http://${H}:1/", "http://host:1"),
    ],
)
def test_a_region_becomes_a_base_url(region: str, endpoint: str) -> None:
    made = job(f"identification: {{user_id: id}}\ndestination: {{region: '{region}'}}", R="eu", H="host")
    assert made.destination.endpoint == endpoint


def test_variables_are_expanded_in_sources() -> None:
    text = "identification: {user_id: '${A}'}\nsource: ['${A}/${B}.csv', '$${A}', 'a$b$', '${E}x']"
    made = job(text, A="x", B="${A}", E="")
    assert made.source == ("x/${A}.csv", "${A}", "a$b$", "x")
    assert made.identification.fields["user_id"].column == "${A}"


def test_lines_of_columns_go_by_the_paths_of_their_specs() -> None:
    made = job(
        """\
        identification:
          user_id: id
          user_properties:
            plan: plan_name
            a.b:
              type: number
              column: c
          groups:
            org: company
          language:
            {column: lang}
        """
    )
    assert {path: made.lines[path] for path, _ in made.identification.specs()} == {
        "user_id": 2,
        "user_properties.$set.plan": 4,
        "user_properties.$set.a.b": 7,
        "groups.org": 9,
        "language": 11,
    }


def test_the_order_of_keys_in_a_file_changes_nothing() -> None:
    properties, reversed_properties = "{c: d, e: {value: {f: 1, g: 2}}}", "{e: {value: {g: 2, f: 1}}, c: d}"
    one = f"identification: {{user_id: a, language: b, user_properties: {properties}}}\nsource: x"
    other = f"source: x\nidentification: {{user_properties: {reversed_properties}, language: b, user_id: a}}"
    assert job(one) == job(other)
    assert repr(job(one)) == repr(job(other))
    assert fingerprint(job(one)) == fingerprint(job(other))


def test_plain_properties_mean_set() -> None:
    plain = job("identification: {user_id: a, user_properties: {c: d}}")
    assert plain == job("identification: {user_id: a, user_properties: {$set: {c: d}}}")


def test_json_is_a_job_file_too() -> None:
    text = '{"identification": {"user_id": "id", "user_properties": {"n": {"value": 1.50}}}}'
    assert job(text) == job("identification: {user_id: id, user_properties: {n: {value: 1.5}}}")


@pytest.mark.parametrize("name", ["user_id", "device_id"])
def test_mangled_ids_are_kept_only_if_the_job_says_so(name: str) -> None:
    def mangled(spec: str) -> str:
        return job(f"identification: {{{name}: {spec}}}").identification.fields[name].mangled

    assert (
        mangled("id")
        == mangled("{column: id}")
        == mangled("{column: id, ids: {mangled: reject}}")
        == "reject"
    )
    assert mangled("{column: id, ids: {}}") == "reject"
    assert mangled("{column: id, ids: {mangled: keep}}") == "keep"
    same, other = (
        fingerprint(job(f"identification: {{{name}: {{column: id, ids: {{mangled: {word}}}}}}}"))
        for word in ("reject", "keep")
    )
    assert same == fingerprint(job(f"identification: {{{name}: id}}")) != other


@pytest.mark.parametrize("place", ["user_properties: {user_id", "groups: {g", "country"])
def test_only_ids_have_the_key_ids(place: str) -> None:
    end = "}" * place.count("{")
    spec = f"{place}: {{column: c, ids: {{mangled: keep}}}}{end}"
    text = f"partial_families: reset\nidentification:\n  user_id: id\n  {spec}\n"
    line, message = fault(text)
    assert line == 4
    assert message == "`ids` can't be used here; only `user_id` and `device_id` are ids"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{column: id, ids: {mangled: send}}", "`mangled` is `send`; it must be `reject` or `keep`"),
        ("{column: id, ids: {mangle: keep}}", "did you mean `mangled`"),
        ("{column: id, ids: keep}", "`ids`"),
        ("{value: user-1, ids: {mangled: keep}}", "`ids` does nothing for a constant"),
    ],
)
def test_what_ids_can_t_say_is_a_fault(spec: str, words: str) -> None:
    assert words in fault(f"identification:\n  user_id: {spec}\n")[1]


SECRETS = {
    "AMPLITUDE_API_KEY": "the-key-of-the-project",
    "OUR_KEY": "x",
    "amplitude_secret": "s",
    "EXPORT_TOKEN": "t",
    "DB_PASSWORD": "p",
    "PLAIN": "behind-the-key-of-the-project-and-before",
}


@each_row("name", [*SECRETS, "NOT_SET_TOKEN"])
@each_row(
    ("line", "text"),
    [
        (2, "source: ${{{0}}}.csv"),
        (2, "source: [a.csv, 'https://host/${{{0}}}/b.csv']"),
        (3, "destination:\n  region: https://${{{0}}}.example"),
    ],
)
def test_a_variable_with_a_secret_is_expanded_nowhere(name: str, line: int, text: str) -> None:
    with pytest.raises(JobError) as caught:
        job(f"identification: {{user_id: id}}\n{text.format(name)}", **SECRETS)
    (fault,) = caught.value.faults
    assert fault.line == line or "a.csv" in text
    assert f"`${{{name}}}`, which holds a secret" in fault.message
    assert not any(value in str(caught.value) for value in SECRETS.values() if len(value) > 1)


def test_the_variable_that_the_job_names_for_its_key_is_a_secret_whatever_its_name() -> None:
    text = "identification: {user_id: id}\napi_key_env: OURS\nsource: '${OURS}.csv'"
    with pytest.raises(JobError, match="holds a secret"):
        job(text, OURS="abc")
    assert job(text.replace("${OURS}", "${PLACE}"), OURS="abc", PLACE="abc-1").source == ("abc-1.csv",)


@each_row("name", ["PWD", "KEYS", "MONKEY", "TOKENS_FOLDER", "KEY_FOLDER", "SECRETARY"])
def test_other_names_are_expanded(name: str) -> None:
    assert job(f"identification: {{user_id: id}}\nsource: '${{{name}}}/a.csv'", **{name: "x"}).source == (
        "x/a.csv",
    )


IDENTIFICATION = "identification: {user_id: id}\n"


@each_row(
    ("text", "escape"),
    [
        ("", ""),
        ('csv: {escape: "\\\\"}', "\\"),
        ("csv: {escape: '\\'}", "\\"),
        ("csv: {escape: \\}", "\\"),
        ("csv: {escape: '\"'}", ""),  # as quotes are doubled anyway
        ("csv: {escape: '^', quote: \"'\"}", "^"),
    ],
)
def test_an_escape_is_one_character(text: str, escape: str) -> None:
    assert job(IDENTIFICATION + text).csv.escape == escape


def test_a_file_may_have_quotes_without_meaning() -> None:
    assert job(IDENTIFICATION + "csv: {quote: ''}").csv.quote == ""


@each_row("escape", ["''", "ab", "a", "é", "' '", '"\\t"'])
def test_what_is_no_escape_character_is_a_fault(escape: str) -> None:
    line, message = fault(f"{IDENTIFICATION}csv: {{escape: {escape}}}\n")
    assert line == 2
    assert "`escape` must be one character" in message


@pytest.mark.parametrize("written", ["null", '"null"', "~", ""])
def test_missing_null_is_a_word_and_yamls_null(written: str) -> None:
    text = f"{IDENTIFICATION}missing: {written}\n"
    assert job(text).missing == "null"
    assert SCHEMA.is_valid(resolved(read_document(text).data))


def test_missing_fails_unless_told_otherwise() -> None:
    assert job(IDENTIFICATION).missing == job(f"{IDENTIFICATION}missing: fail\n").missing == "fail"
    assert Job.of({"identification": {"user_id": "id"}, "missing": None}).missing == "null"
    assert Job.of({"identification": {"user_id": "id"}, "missing": "null"}).missing == "null"
    line, message = fault(f"{IDENTIFICATION}missing: nul\n")
    assert (line, "did you mean `null`?" in message) == (2, True)
    assert not SCHEMA.is_valid(resolved(read_document(f"{IDENTIFICATION}missing: zero\n").data))


def test_a_fingerprint_changes_only_with_what_differs_from_before() -> None:
    base = fingerprint(job(IDENTIFICATION))
    assert fingerprint(job(f"{IDENTIFICATION}missing: fail\n")) == base
    others = {f"{IDENTIFICATION}missing: null\n", f"{IDENTIFICATION}csv: {{escape: '\\'}}\n"}
    assert len({base, *(fingerprint(job(text)) for text in others)}) == 3


@pytest.mark.parametrize("word", ["hex", "uuid"])
def test_steps_for_bytes_are_words(word: str) -> None:
    assert column(f"{{column: c, transform: [{word}, upper]}}").transform == (Step(word), Step("upper"))  # type: ignore[arg-type]


BATCH = "destination: {transport: batch}\n"
PLAIN = "identification: {user_id: id, user_properties: {plan: plan}}\n"
JOB = "identification: {user_id: id, time: seen, user_properties: {plan: plan}}\n"


def test_identify_is_the_way_unless_a_job_says_batch() -> None:
    plain = "identification: {user_id: id, user_properties: {plan: plan}}\n"
    assert job(plain).destination.transport == "identify"
    assert job(plain + BATCH).destination.transport == "batch"


def test_a_time_is_a_column_of_events() -> None:
    made = job(JOB + BATCH)
    assert made.identification.fields["time"] == ColumnSpec("seen")
    assert made.identification.columns() == ("id", "seen", "plan")
    assert fingerprint(made) != fingerprint(job(JOB.replace("seen", "came") + BATCH))


@pytest.mark.parametrize("way", ["", "destination: {transport: identify}\n", "destination: {region: eu}\n"])
def test_the_identify_api_takes_no_time(way: str) -> None:
    line, message = fault(JOB + way)
    assert (line, "`time` needs `transport: batch`" in message) == (1, True), message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{column: seen, type: string}", "`time` is a time; use datetime or date or number or integer"),
        ("{value: soon}", "`value` must be a time such as 2024-12-31T23:59:59Z"),
        ("{column: seen, default: soon}", "`default` must be a time such as 2024-12-31T23:59:59Z"),
        ("{column: seen, null: unset}", "only a property under `$set` can be unset"),
        ("{}", "`time` needs a `column`, or a `value` for a constant"),
    ],
)
def test_a_time_is_a_moment(spec: str, words: str) -> None:
    text = f"destination: {{transport: batch}}\nidentification:\n  user_id: id\n  time: {spec}\n"
    line, message = fault(text)
    assert (line, words in message) == (4, True), message


def test_a_time_may_be_a_constant_and_have_a_default() -> None:
    fixed = job("identification: {user_id: id, time: {value: 2024-05-01T10:00:00+02:00}}\n" + BATCH)
    assert fixed.identification.fields["time"].constant == '"2024-05-01T08:00:00"'
    spec = "{column: seen, type: integer, default: 2024-05-01}"
    filled = job(f"identification: {{user_id: id, time: {spec}}}\n" + BATCH)
    assert filled.identification.fields["time"].default == '"2024-05-01T00:00:00"'


def test_a_status_is_trusted_only_where_the_job_says_so() -> None:
    plain, trusting = (
        job(PLAIN),
        job(PLAIN + "destination: {region: 'http://127.0.0.1:1', trust_status: true}\n"),
    )
    assert not plain.destination.trust_status
    assert trusting.destination.trust_status
    assert trusting.lines["destination.trust_status"] == 2


def test_what_is_taken_for_an_acceptance_changes_nothing_of_what_is_sent() -> None:
    assert fingerprint(job(PLAIN)) == fingerprint(job(PLAIN + "destination: {trust_status: true}\n"))


@pytest.mark.parametrize("value", ["maybe", "1", "[true]", "''"])
def test_a_trust_that_is_neither_true_nor_false_is_a_fault(value: str) -> None:
    line, message = fault(PLAIN + f"destination: {{trust_status: {value}}}\n")
    assert line == 2
    assert "trust_status" in message


def test_a_sheet_is_named_once() -> None:
    plain = "identification: {user_id: id}\n"
    assert job(plain).excel.sheet is None
    assert job(f"sheet: A b\n{plain}").excel == job(f"excel: {{sheet: A b}}\n{plain}").excel
    assert job(f"sheet: B\nexcel: {{skip_rows: 2}}\n{plain}").excel.skip_rows == 2
    message = "`excel` has a `sheet`, and the job has one, too: take one of them out"
    assert fault(f"sheet: B\nexcel: {{sheet: B}}\n{plain}") == (2, message)
    assert fault(f"sheet: ''\n{plain}") == (1, "`sheet` is empty")
