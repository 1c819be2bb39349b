from __future__ import annotations

import textwrap

import pytest

from etl.amplitude.requests import LIST_OPERATORS, OPERATORS
from tests.examples import each_row
from tests.job.job_texts import column_fault, fault, faults, job

EVERYTHING_WRONG = """\
nam: x
source: [a.csv, "${NOPE}/x.csv"]
user_id: id
identification:
  user_id: id
  user_propertys: {a: b}
  country: no
  user_properties:
    $set:
      plan: {column: plan_name, value: crm, tipe: x}
      mrr: {column: mrr_usd, type: numbr}
      tags:
        column: tags
        separator: ";"
        transform:
          - trim
          - lowr
          - date_format: "%Q"
          - prefx: a
      list: [1]
    $sett: {a: b}
    $setOnce: {plan: plan_name}
    $unset: [plan]
    plain: x
  groups: {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6}
destination:
  region: ftp://x
  transport: btach
csv:
  delimiter: ";;"
  delimiter: ";"
transform: clean
partial_families: rest
"""


TOGETHER_WRONG = """\
identification:
  user_id: id
  country: no
  language: {type: string}
  user_properties:
    $set:
      plan: plan_name
    $add: {n: new}
    $setOnce: {plan: plan_name}
    $unset: [plan]
    plain: x
  groups: {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6}
changes: {by: user, ignore: [new, plan_nam]}
absent: unset
"""


def test_all_faults_of_keys_together_are_reported_at_once_each_with_its_line() -> None:
    told = [(line, message.split(";")[0][:70]) for line, message in faults(TOGETHER_WRONG)]
    assert told == [
        (3, "`country` without `region`, `city`, `dma`: Amplitude updates them toge"),
        (4, "`language` needs a `column`, or a `value` for a constant"),
        (9, "`plan` stands under `$set` and `$setOnce`"),
        (10, "`plan` stands under `$set` and `$unset`"),
        (11, "`plain` stands beside operators, which Amplitude refuses"),
        (12, "`f` is one group type too many: Amplitude takes 5"),
        (13, "`changes: user` sends users whole or not at all, and $add must go for "),
        (13, "`new` can't be ignored: $add goes for every row"),
        (13, "`plan_nam` is not a column that the job sends"),
        (14, "`absent: unset` can't be used with $add: a user who isn't in an export"),
    ]


def test_all_faults_of_single_keys_are_reported_at_once_each_with_its_line() -> None:
    told = [(line, message.split(";")[0][:70]) for line, message in faults(EVERYTHING_WRONG)]
    assert told == [
        (1, "unknown key `nam`"),
        (2, "`source` needs the environment variable NOPE, which is not set"),
        (3, "unknown key `user_id`"),
        (6, "unknown key `user_propertys`"),
        (10, "`column` and `value` exclude each other: a value comes from the source"),
        (10, "unknown key `tipe`"),
        (11, "`type` is `numbr`"),
        (14, "`separator` does nothing without `type: list`"),
        (17, "`transform` has no step `lowr`"),
        (18, "`date_format` has `%Q`, which can't be read"),
        (19, "unknown key `prefx`"),
        (20, "`list` must be a column's name, or a mapping such as {column: NAME}"),
        (21, "unknown key `$sett`"),
        (27, "`region` must be `us`, `eu` or a base URL that begins with http:// or "),
        (28, "`transport` is `btach`"),
        (30, '`delimiter` must be one character such as "'),
        (31, "`delimiter` is given a second time"),
        (32, "`transform` must name a Python function as `package.module:function`"),
        (33, "`partial_families` is `rest`"),
    ]


@each_row(
    ("text", "line", "end"),
    [
        ("identificaton: {user_id: a}", 1, "did you mean `identification`?"),
        ("identification:\n  user_id: a\n  User_Id: b", 3, "did you mean `user_id`?"),
        ("identification:\n  user_id: a\n  plan: b", 3, "properties belong under `user_properties`"),
        ("identification:\n  user_id: a\n  source: b", 3, "it belongs at the top level"),
        ("identification: {user_id: a}\nregion: eu", 2, "it belongs under `identification`"),
        ("identification: {user_id: a}\nencoding: utf-8", 2, "it belongs under `csv`"),
        ("identification: {user_id: a}\ndestination:\n  api_key_env: A", 3, "it belongs at the top level"),
        ("identification:\n  user_id:\n    column: a\n    transfrom: trim", 4, "did you mean `transform`?"),
        (
            "identification:\n  user_id: a\n  user_properties:\n    $setonce: {a: b}",
            4,
            "did you mean `$setOnce`?",
        ),
        ("identification:\n  user_id: a\n  groups:\n    type:\n      colum: b", 5, "did you mean `column`?"),
        (
            "identification:\n  user_id: a\n  user_properties:\n    transform:\n      typ: b",
            5,
            "did you mean `type`?",
        ),
        ("identification: {user_id: a}\nzzzzzzzz: 1", 2, "unknown key `zzzzzzzz`"),
    ],
)
def test_an_unknown_key_is_told_with_what_to_do_about_it(text: str, line: int, end: str) -> None:
    found = [(at, message) for at, message in faults(text) if message.startswith("unknown key")]
    assert [(at, message.endswith(end)) for at, message in found] == [(line, True)], found


def test_plain_properties_keep_their_lines() -> None:
    properties = "    b: c\n    d:\n      column: e\n      typ: date\n"
    text = f"identification:\n  user_id: a\n  user_properties:\n{properties}"
    assert fault(text) == (7, "unknown key `typ`; did you mean `type`?")


@each_row(
    ("spec", "words"),
    [
        ("", "must be a column's name"),
        ("[a]", "must be a column's name"),
        ('""', "must be a column's name"),
        ("{}", "`p` needs a `column`, or a `value`"),
        ("{type: date}", "`p` needs a `column`, or a `value`"),
        ('{column: ""}', "`column` is empty"),
        ("{column: [a]}", "`column` must be text"),
        ("{column: a, value: b}", "exclude each other"),
        ("{column: a, type: float}", "it must be `string`, `number`, `integer`"),
        ("{column: a, type: int}", "did you mean `integer`?"),
        ("{column: a, type: }", "`type` is empty; it must be"),
        ("{column: a, type: [date]}", "`type` must be `string`"),
        ("{column: a, null: drop}", "must be `skip` or `unset`"),
        ("{column: a, empty: skip}", "must be `null` or `keep`"),
        ("{column: a, empty: keep, type: number}", "`empty: keep` is for text"),
        ("{column: a, too_long: cut}", "must be `reject` or `truncate`"),
        ("{column: a, separator: ';'}", "`separator` does nothing without `type: list`"),
        ("{column: a, type: list, separator: ''}", "`separator` is empty"),
        ("{column: a, path: a..b}", "`path` has an empty part"),
        ("{column: a, path: ''}", "`path` is empty"),
        ("{column: a, transform: {}}", "must be a word such as `trim`"),
        ("{column: a, transform: [[trim]]}", "must be a word such as `trim`"),
        ("{column: a, transform: 5.5}", "has no step `5.5`"),
        ("{column: a, transform: [tirm]}", "did you mean `trim`?"),
        ("{column: a, transform: [prefix]}", "needs an argument for `prefix`"),
        ("{column: a, transform: [trim: 1]}", "takes `trim` without an argument"),
        ("{column: a, transform: [{prefix: a, replace: {b: c}}]}", "a mapping of one key"),
        ("{column: a, transform: [prefix: '']}", "`prefix` is empty"),
        ("{column: a, transform: [prefix: [a]]}", "`prefix` must be text"),
        ("{column: a, transform: [replace: {}]}", "`replace` is empty"),
        ("{column: a, transform: [replace: {a: [b]}]}", "`a` must be text"),
        ("{column: a, transform: [replace: {'': b}]}", "is empty"),
        ("{column: a, transform: [replace: a]}", "`replace` must be a mapping"),
        ("{column: a, transform: [date_format: '%d.%q.%Y']}", "has `%q`, which can't be read"),
        ("{column: a, transform: [date_format: '%d.%m.%']}", "has `%`, which can't be read"),
        ("{column: a, transform: [date_format: '%d.%m']}", "must have the year in it"),
        ("{column: a, transform: [date_format: '%Y %Y']}", "has `%Y` twice"),
        ("{value: }", "is null, which Amplitude ignores"),
        ("{value: .nan}", "is not a finite number"),
        ("{value: [1, -.inf]}", "is not a finite number"),
        ("{value: 1e999}", "is not a finite number"),
        ("{value: 9223372036854775808}", "too big a number"),
        ("{value: [[a]]}", "a list inside a list"),
        ("{value: {a: [[b]]}}", "a list inside a list"),
        (f"{{value: {'x' * 1025}}}", "longer than 1024 characters"),
        (f"{{value: [{'x' * 600}, {'y' * 600}]}}", "more than 1024 characters in all"),
        (f"{{value: {'{a: ' * 40}b{'}' * 40}}}", "nested deeper than 40 levels"),
        ("{value: a, transform: trim}", "`transform` does nothing for a constant"),
        ("{value: a, default: b}", "`default` does nothing for a constant"),
        ("{value: a, type: number}", "`value` must be a number"),
        ("{column: a, type: number, default: '0'}", "`default` must be a number"),
        ("{column: a, type: number, default: true}", "`default` must be a number"),
        ("{column: a, type: integer, default: 1.5}", "`default` must be a whole number"),
        ("{column: a, type: boolean, default: no}", "`default` must be true or false"),
        ("{column: a, type: string, default: [a]}", "`default` must be text"),
        ("{column: a, type: date, default: 31.12.2024}", "`default` must be a date"),
        ("{column: a, type: datetime, default: noon}", "`default` must be a time"),
        ("{column: a, type: datetime, default: '0001-01-01T00:00:00+10:00'}", "`default` must be a time"),
        ("{column: a, type: list, default: b}", "`default` must be a list"),
    ],
)
def test_a_column_spec_that_makes_no_sense_is_a_fault(spec: str, words: str) -> None:
    assert words in column_fault(spec)


def test_one_column_spec_can_have_many_faults() -> None:
    spec = "{column: a, value: b, null: drop, default: [[1]], separator: x, typ: date}"
    text = f"identification:\n  user_id: id\n  user_properties:\n    p: {spec}\n"
    assert {line for line, _ in faults(text)} == {4}
    assert len(faults(text)) == 5


@each_row("operator", [o for o in OPERATORS if o not in {"$set", "$unset", "$clearAll"}])
def test_only_set_properties_can_be_unset(operator: str) -> None:
    assert "only a property under `$set`" in column_fault("{column: a, null: unset}", under=operator)


@pytest.mark.parametrize("operator", sorted(LIST_OPERATORS))
def test_a_mapping_is_no_list(operator: str) -> None:
    assert "must be a list or one value" in column_fault("{value: {a: b}}", under=operator)


@each_row("kind", ["string", "boolean", "date", "datetime", "list", "json"])
def test_only_numbers_can_be_added(kind: str) -> None:
    assert "use number or integer" in column_fault(f"{{column: a, type: {kind}}}", under="$add")


@pytest.mark.parametrize("spec", ["{value: a}", "{column: a, default: a}"])
def test_only_numbers_can_be_added_by_the_file_itself(spec: str) -> None:
    assert "must be a number" in column_fault(spec, under="$add")


@each_row(
    ("field", "words"),
    [
        ("language: {column: a, type: list}", "Amplitude takes only text here"),
        ("language: {column: a, type: json}", "Amplitude takes only text here"),
        ("language: {value: [a]}", "`value` must be text"),
        ("language: {column: a, null: unset}", "only a property under `$set`"),
        ("groups: {a: {column: a, type: json}}", "a group is text or a list of text"),
        ("groups: {a: {value: {b: c}}}", "`value` must be text or a list of text"),
        ("groups: {a: {value: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}}", "has more than 10 groups"),
        ("groups: {'': a}", "a group type has no name"),
        ("groups: a", "`groups` must be a mapping"),
        ("user_properties: [a]", "`user_properties` must be a mapping"),
        ("user_properties: {$set: a}", "`$set` must be a mapping"),
        ("user_properties: {$unset: a}", "`$unset` must be a list"),
        ("user_properties: {$unset: {a: '-'}}", "`$unset` must be a list"),
        ("user_properties: {$unset: [[a]]}", "`$unset` must be text"),
        ("user_properties: {$unset: [a, b, a]}", "`a` is listed twice under `$unset`"),
        ("user_properties: {$unset: ['']}", "a property has no name"),
        ("user_properties: {$clearAll: yes}", "`$clearAll` must be true or false"),
        ("user_properties: {'': a}", "a property has no name"),
        ("user_properties: {' ': a}", "a property has no name"),
        ("user_properties: {$set: {$a: b}}", "names that begin with `$` are operators"),
        (f"user_properties: {{? {'p' * 1025} : b}}", "is longer than 1024 characters"),
    ],
)
def test_what_amplitude_cant_take_is_a_fault(field: str, words: str) -> None:
    line, message = fault(f"identification:\n  user_id: id\n  {field}\n")
    assert (line, words in message) == (3, True), message


@each_row(
    ("line", "words"),
    [
        ("name: a/b", "letters, digits"),
        ("name: ..", "letters, digits"),
        ("name: -a", "letters, digits"),
        ("name: ''", "`name` is empty"),
        ("changes: never", "`changes` is `never`; it must be `property`, `user` or `off`"),
        (f"name: {'n' * 61}", "at most 60 characters"),
        ("source: ''", "`source` is empty"),
        ("source: [a, [b]]", "`source` must be text"),
        ("source: ${}", "`${}`, which is not a name"),
        ("source: ${A B}", "`${A B}`, which is not a name"),
        ("source: ${A", "has `${` without a `}`"),
        ("source: ${EMPTY}", "`source` is empty"),
        ("transform: clean.users", "`package.module:function`"),
        ("transform: 'clean:1'", "`package.module:function`"),
        ("transform: 'a..b:c'", "`package.module:function`"),
        ("api_key_env: A-B", "name of an environment variable"),
        ("api_key_env: $A", "name of an environment variable"),
        ("api_key_env: abcdef0123456789abcdef0123456789", "looks like a key"),
        ("api_key_file: ''", "`api_key_file` is empty"),
        ("destination: us", "`destination` must be a mapping"),
        ("csv: [a]", "`csv` must be a mapping"),
        ("csv: {delimiter: ''}", "must be one character"),
        ("csv: {delimiter: e}", "must be one character"),
        ('csv: {delimiter: "\\n"}', "must be one character"),
        ("csv: {header: ['', a]}", "`header` has a column without a name"),
        ("destination: {api_key_env: A}", "unknown key `api_key_env`; it belongs at the top level"),
        ("csv: {header: []}", "`header` must be a list of the columns' names"),
        ("csv: {header: true}", "`header` must be a list of the columns' names"),
        ("csv: {header: [a, b, a]}", "`header` has `a` twice"),
        ("csv: {skip_rows: -1}", "`skip_rows` must be a number of lines"),
        ("csv: {skip_rows: two}", "`skip_rows` must be a number of lines"),
        ("csv: {quote: '<>'}", 'must be one character, or "" for none'),
        ("csv: {encoding: utf-9}", "did you mean `utf-8`?"),
        ("csv: {encoding: hex}", "not a text encoding that Python knows"),
        ("csv: {encoding: undefined}", "not a text encoding that Python knows"),
        ('csv: {encoding: "a\\0b"}', "not a text encoding that Python knows"),
        ("destination: {transport: udp}", "it must be `identify` or `batch`"),
    ],
)
def test_top_level_words_are_checked(line: str, words: str) -> None:
    at, message = fault(f"identification: {{user_id: id}}\n{line}\n", EMPTY="")
    assert (at, words in message) == (2, True), message


@each_row(
    "region",
    [
        "eu-west",
        "amplitude.com",
        "ftp://host",
        "http://",
        "http:///path",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
        "http://ho st",
        "http://user:pa55@host",
        "http://user@host",
        "http://host?pa55",
        "http://host/#pa55",
        "http://host\\pa55",
        "${URL}",
    ],
)
def test_a_region_that_is_no_base_url_is_refused_and_never_shown(region: str) -> None:
    text = f"identification: {{user_id: id}}\ndestination:\n  region: '{region}'\n"
    line, message = fault(text, URL="https://host/?pa55")
    assert line == 3
    assert "base URL" in message
    assert "pa55" not in message


SECRET = "c0ffee00c0ffee00c0ffee00c0ffee00"


@each_row("key", ["api_key", "apikey", "API-KEY", "apiKey", "secret", "secret_key", "amplitude_api_key"])
@each_row("place", ["{}", "destination: {{{}}}", "csv: {{{}}}", "identification: {{user_id: id, {}}}"])
def test_a_secret_is_refused_wherever_a_section_is_and_never_shown(key: str, place: str) -> None:
    text = f"{place.format(f'{key}: {SECRET}')}\n"
    if "identification" not in text:
        text += "identification: {user_id: id}\n"
    line, message = fault(text)
    assert line == 1
    assert message.startswith(f"`{key}`: secrets can't stand in a job file")
    assert "AMPLITUDE_API_KEY" in message
    assert SECRET not in message


def test_a_secret_may_be_the_name_of_a_property() -> None:
    assert job("identification: {user_id: id, user_properties: {api_key: token}}").identification.operators


def test_a_key_has_one_place() -> None:
    text = "identification: {user_id: id}\napi_key_env: A\napi_key_file: b\n"
    assert fault(text) == (3, "`api_key_env` and `api_key_file` exclude each other: give one of them")


NOBODY = "neither `user_id` nor `device_id` is given; Amplitude needs one to know whose update it is"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("source: a.csv\n", (None, "`identification` is missing")),
        ("source: a.csv\nidentification: {}\n", (2, NOBODY)),
        ("source: a.csv\nidentification:\n", (2, "`identification` must be a mapping")),
        ("source: a.csv\nidentification: x\n", (2, "`identification` must be a mapping")),
    ],
)
def test_an_identification_is_needed(text: str, told: tuple[int | None, str]) -> None:
    assert fault(text) == told


def test_somebody_must_be_identified() -> None:
    line, message = fault("source: a.csv\nidentification:\n  user_properties: {a: b}\n")
    assert line == 2
    assert "neither `user_id` nor `device_id`" in message


@pytest.mark.parametrize(
    ("given", "missing"),
    [("os_name: a", "`platform`"), ("dma: a", "`country`, `region`, `city`"), ("city: {value: a}", "`dma`")],
)
def test_a_family_in_part_is_refused_with_the_reason(given: str, missing: str) -> None:
    line, message = fault(f"identification:\n  user_id: id\n  {given}\n")
    assert line == 3
    assert missing in message
    assert "`partial_families: reset`" in message


def test_a_family_in_part_is_allowed_by_name() -> None:
    made = job("partial_families: reset\nidentification: {user_id: id, city: a, carrier: b}\n")
    assert made.partial_families == "reset"


def test_a_whole_family_needs_no_word() -> None:
    place = "country: a, region: b, city: c, dma: d"
    assert job(f"identification: {{user_id: id, {place}}}").partial_families == "refuse"


def test_a_thousand_properties_are_enough() -> None:
    lines = "".join(f"    p{i}: c\n" for i in range(1000))
    start = "identification:\n  user_id: id\n  user_properties:\n"
    assert len(job(start + lines).identification.operators["$set"]) == 1000
    assert fault(f"{start}{lines}    more: c\n") == (
        1004,
        "`more` is one property too many: at most 1,000 can be sent",
    )


def test_messages_begin_with_the_file_and_the_line() -> None:
    text = textwrap.dedent(
        """\
        # users
        identification:
          user_id: id

          user_properties: {}
          # a comment
          user_propertys: {}
        """
    )
    with pytest.raises(
        Exception, match=r"^job\.yml:7: unknown key `user_propertys`; did you mean `user_properties`\?$"
    ):
        job(text)


def test_long_words_are_shown_short() -> None:
    _, message = fault(f"identification: {{user_id: id}}\n{'k' * 900}: 1\n")
    assert len(message) < 100


def test_a_syntax_error_is_the_only_fault() -> None:
    line, message = fault("nam: x\nidentification:\n  user_id: [a\n")
    assert line == 3
    assert "the `[` opened here is never closed" in message
