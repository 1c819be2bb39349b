"""The product and the sandbox hold Amplitude's rules apart; here both are held against its documentation.

A failure means that one of the two has drifted from what the named page says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from etl import Job, amplitude, preview, run
from etl.amplitude.requests import TransportName
from etl.run_events import Summary
from etl.sandbox import Sandbox, api_rules, running_sandbox
from etl.sandbox.api_rules import RequestRefusedError, check
from tests.examples import each_row

IDENTIFY = "https://amplitude.com/docs/apis/analytics/identify"
BATCH = "https://amplitude.com/docs/apis/analytics/batch-event-upload"
HTTP_V2 = "https://amplitude.com/docs/apis/analytics/http-v2"
SDKS = "Amplitude's SDKs"


class Documented(NamedTuple):
    """What a page says, as text and as a value, and what both sides make of it."""

    page: str
    says: str
    value: Any
    product: Any
    sandbox: Any


AGREED = [
    Documented(IDENTIFY, "the path", "/identify", amplitude.IDENTIFY_PATH, api_rules.IDENTIFY),
    Documented(BATCH, "the path", "/batch", amplitude.TRANSPORT_RULES["batch"].path, api_rules.BATCH),
    Documented(
        IDENTIFY, "the ids", {"user_id", "device_id"}, set(amplitude.ID_FIELDS), set(api_rules.ID_KEYS)
    ),
    Documented(
        IDENTIFY,
        "footnote 1: the keys of a device are updated together",
        {
            "platform",
            "os_name",
            "os_version",
            "device_brand",
            "device_manufacturer",
            "device_model",
            "carrier",
        },
        set(amplitude.DEVICE_FAMILY),
        api_rules.DEVICE_KEYS,
    ),
    Documented(
        IDENTIFY,
        "footnote 2: the keys of a place are updated together",
        {"country", "region", "city", "dma"},
        set(amplitude.PLACE_FAMILY),
        api_rules.LOCATION_KEYS,
    ),
    Documented(
        IDENTIFY,
        "the other keys that take a string",
        {"app_version", "language", "paying", "start_version"},
        set(amplitude.STRING_FIELDS) - set(amplitude.DEVICE_FAMILY) - set(amplitude.PLACE_FAMILY),
        api_rules.TEXT_KEYS - api_rules.DEVICE_KEYS - api_rules.LOCATION_KEYS,
    ),
    Documented(
        IDENTIFY,
        "19 keys in all",
        19,
        len(set(amplitude.FIELDS)),
        len(api_rules.IDENTIFICATION_KEYS),
    ),
    Documented(
        SDKS,
        "the operators in the order in which they are applied",
        "$clearAll $unset $set $setOnce $add $append $prepend $preInsert $postInsert $remove",
        " ".join(amplitude.OPERATORS),
        " ".join(api_rules.ORDERED_OPERATORS),
    ),
    Documented(
        IDENTIFY,
        "the operators on lists",
        {"$append", "$prepend", "$preInsert", "$postInsert", "$remove"},
        amplitude.LIST_OPERATORS,
        api_rules.ITEM_OPERATORS,
    ),
    Documented(HTTP_V2, "the shortest id", 5, amplitude.MIN_ID_LENGTH, api_rules.SHORTEST_ID),
    Documented(HTTP_V2, "the longest id", 1024, amplitude.MAX_ID_LENGTH, api_rules.LONGEST_ID),
    Documented(
        HTTP_V2,
        "ids that are refused",
        {"00000000-0000-0000-0000-000000000000", "{}", "-1", "0", "n/a", "na", "lmy47d"}
        | {"anonymous", "nil", "none", "null", "undefined", "unknown"},
        amplitude.REFUSED_IDS,
        api_rules.REFUSED_IDS_LOWER,
    ),
    Documented(HTTP_V2, "the longest string", 1024, amplitude.MAX_STRING_LENGTH, api_rules.LONGEST_STRING),
    Documented(HTTP_V2, "the deepest value", 40, amplitude.MAX_DEPTH, api_rules.DEEPEST_VALUE),
    Documented(
        SDKS, "the most properties at once", 1000, amplitude.MAX_PROPERTIES, api_rules.MOST_PROPERTIES
    ),
    Documented(HTTP_V2, "the most group types", 5, amplitude.MAX_GROUP_TYPES, api_rules.MOST_GROUP_TYPES),
    Documented(HTTP_V2, "the most groups", 10, amplitude.MAX_GROUP_VALUES, api_rules.MOST_GROUPS),
    Documented(BATCH, "the most events in a request", 2000, amplitude.MAX_EVENTS, api_rules.MOST_EVENTS),
    Documented(BATCH, "the event's type", "$identify", amplitude.IDENTIFY_EVENT, api_rules.IDENTIFY_EVENT),
    Documented(
        HTTP_V2,
        "how long an insert_id is known, in days",
        7,
        amplitude.INSERT_ID_DAYS,
        api_rules.INSERT_ID_SECONDS / 86_400,
    ),
]
# The product keeps below these limits, which nobody documents to the last byte.
BOUNDED = [
    Documented(IDENTIFY, "identifications", 1000, amplitude.MAX_BATCH_SIZE, api_rules.MOST_IDENTIFICATIONS),
    Documented(HTTP_V2, "1 MB", 1_000_000, amplitude.MAX_BODY_BYTES, api_rules.MOST_IDENTIFY_BYTES),
    Documented(BATCH, "20 MB", 20_000_000, amplitude.MAX_EVENTS_BYTES, api_rules.MOST_BATCH_BYTES),
]


@each_row("rule", AGREED)
def test_product_and_sandbox_have_what_the_page_says(rule: Documented) -> None:
    said = f"{rule.page} says of {rule.says}: {rule.value}"
    assert rule.product == rule.value, f"{said}; etl.amplitude has {rule.product}"
    assert rule.sandbox == rule.value, f"{said}; etl.sandbox.api_rules has {rule.sandbox}"


@pytest.mark.parametrize("rule", BOUNDED, ids=lambda rule: rule.says)
def test_the_product_keeps_within_what_the_sandbox_takes(rule: Documented) -> None:
    said = f"{rule.page} says of a request: at most {rule.value} ({rule.says})"
    assert rule.sandbox == rule.value, f"{said}; etl.sandbox.api_rules has {rule.sandbox}"
    assert 0 < rule.product <= rule.value, f"{said}; etl.amplitude has {rule.product}"


# --- what the product sends is what the sandbox takes ----------------------------------------------------


def job_of(folder: Path, identification: object, transport: str = "identify") -> Job:
    destination = {"transport": transport}
    data = {"name": "job", "source": "-", "identification": identification, "destination": destination}
    return Job.of(data, folder=folder)


def send(job: Job, sandbox: Sandbox, table: pa.Table, **settings: Any) -> Summary:
    return run(job, table, key="any", endpoint=sandbox.url, rate=None, requests_per_second=None, **settings)


def is_taken(user_id: str) -> bool:
    try:
        check({"user_id": user_id})
    except RequestRefusedError:
        return False
    return True


@pytest.mark.parametrize("transport", ["identify", "batch"])
def test_the_product_refuses_exactly_the_ids_that_the_sandbox_refuses(
    tmp_path: Path, sandbox: Sandbox, transport: str
) -> None:
    words = ["anonymous", "nil", "none", "n/a", "undefined", "unknown", "lmy47d", "null", "0", "-1", "{}"]
    words += ["00000000-0000-0000-0000-000000000000", "unknowns", "anonymous1", "no-one", "undefine"]
    ids = [form for word in words for form in {word, word.upper(), word.title()}]
    ids += ["ß" * n for n in (1, 4, 5, 6, 1023, 1024, 1025)] + ["12345", "1234", "😀" * 5, "😀" * 4]
    table = pa.table({"id": ids, "plan": ["pro"] * len(ids)})
    identification = {"user_id": "id", "user_properties": {"plan": "plan"}}
    summary = send(job_of(tmp_path, identification, transport), sandbox, table)
    assert set(sandbox.profiles.users) == set(filter(is_taken, ids))
    assert set(sandbox.stats.statuses) == {200}
    assert summary.tally.rejected == len(ids) - len(sandbox.profiles.users)


def test_every_field_arrives_under_a_key_that_the_sandbox_knows(tmp_path: Path, sandbox: Sandbox) -> None:
    names = sorted(api_rules.TEXT_KEYS)
    table = pa.table({"id": ["user-1"], "org": ["acme"], **{name: [f"a {name}"] for name in names}})
    identification = {"user_id": "id", "groups": {"org": "org"}, **{name: name for name in names}}
    send(job_of(tmp_path, identification), sandbox, table)
    profile = sandbox.profiles.users["user-1"]
    assert (profile.fields, profile.groups) == ({name: f"a {name}" for name in names}, {"org": ["acme"]})


TEXTS = ["é" * length for length in (1, 1023, 1024, 1025, 3000)]
LISTS = [["a" * length, "b"] for length in (1, 1023, 1024, 3000)]


@pytest.mark.parametrize("values", [TEXTS, LISTS], ids=["texts", "lists"])
def test_the_sandbox_keeps_what_the_product_says_it_sends(
    tmp_path: Path, sandbox: Sandbox, values: list[Any]
) -> None:
    """What is longer than is kept is cut before it is sent, not after."""
    users = [f"user-{number}" for number in range(len(values))]
    table = pa.table({"id": users, "text": values})
    text = {"column": "text", "too_long": "truncate"}
    job = job_of(tmp_path, {"user_id": "id", "user_properties": {"text": text}})
    said = [json.loads(line) for line in preview(job, table)]
    send(job, sandbox, table)
    kept = [sandbox.profiles.users[user].properties["text"] for user in users]
    assert kept == [one["user_properties"]["$set"]["text"] for one in said]


@pytest.mark.parametrize(("transport", "columns"), [("identify", 1), ("identify", 12), ("batch", 1)])
def test_the_largest_requests_of_the_product_are_within_the_limits(
    tmp_path: Path, transport: TransportName, columns: int
) -> None:
    """At the largest batch size; with 12 long values a user the limit in bytes comes first."""
    rows = 2_100 if columns == 1 else 300
    names = [f"p{number}" for number in range(columns)]
    values = ["%&" + "+" * 900 * (columns > 1)] * rows
    table = pa.table({"id": [f"user-{row}" for row in range(rows)], **dict.fromkeys(names, values)})
    job = job_of(tmp_path, {"user_id": "id", "user_properties": {name: name for name in names}}, transport)
    with running_sandbox() as sandbox:
        send(job, sandbox, table, batch_size=amplitude.TRANSPORT_RULES[transport].most)
        assert set(sandbox.stats.statuses) == {200}
        assert len(sandbox.profiles.users) == rows
