"""What is compared follows from the job alone."""

from __future__ import annotations

import pyarrow as pa
import pytest

from etl.arrow.structs import value_columns
from etl.snapshot import FieldGroup, layout_of
from tests.snapshot.builders import job_of, layout_for, mapped_of

EVERYTHING = {
    "user_id": "id",
    "app_version": "version",
    "country": "country",
    "region": "region",
    "city": {"value": "Zürich"},
    "dma": "dma",
    "groups": {"company": "company"},
    "user_properties": {
        "$set": {"plan": "plan", "seats": {"column": "seats", "null": "unset"}, "a.b": "plan"},
        "$setOnce": {"first_plan": "plan"},
        "$add": {"orders": "orders"},
        "$postInsert": {"tags": "plan"},
        "$unset": ["old"],
    },
}
COLUMNS = ["id", "version", "country", "region", "dma", "company", "plan", "seats", "orders"]


def names(job_bundles: tuple[FieldGroup, ...]) -> list[str]:
    return [bundle.name for bundle in job_bundles]


def test_a_family_is_one_bundle_and_a_property_is_one_with_its_unsetting() -> None:
    bundles = {bundle.name: bundle for bundle in layout_for(job_of(EVERYTHING)).bundles}
    assert set(bundles) == {
        "app_version",
        "place",
        "groups.company",
        "$set.plan",
        "$set.seats",
        "$set.a.b",
        "$setOnce.first_plan",
        "$add.orders",
        "$postInsert.tags",
        "$unset.old",
    }
    assert set(bundles["place"].paths) == {("country",), ("region",), ("city",), ("dma",)}
    assert set(bundles["$set.seats"].paths) == {
        ("user_properties", "$set", "seats"),
        ("user_properties", "$unset", "seats"),
    }
    assert [name for name, bundle in bundles.items() if bundle.unrepeatable] == ["$add.orders"]


def test_every_value_of_an_identification_is_in_one_bundle() -> None:
    job = job_of(EVERYTHING)
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    row = dict.fromkeys(COLUMNS, "12345")
    (mapped,) = mapped_of(job, [row | {"orders": 1}], schema.set(8, pa.field("orders", pa.int64())))
    found = [path for path, _ in value_columns(mapped.identifications) if path != ("user_id",)]
    paths = [path for bundle in layout_for(job).bundles for path in bundle.paths]
    assert sorted(paths) == sorted(found)


def test_what_clears_all_properties_makes_them_one_that_can_be_compared() -> None:
    properties = {"$clearAll": True, "$set": {"plan": "plan"}, "$add": {"orders": "orders"}}
    layout = layout_for(job_of({"user_id": "id", "language": "lang", "user_properties": properties}))
    assert names(layout.bundles) == ["language", "user_properties"]
    assert layout.names == ("language", "user_properties")


def test_increments_have_no_fingerprint() -> None:
    properties = {"$set": {"plan": "plan"}, "$add": {"n": "n"}, "$append": {"l": "l"}, "$prepend": {"m": "m"}}
    assert layout_for(job_of({"user_id": "id", "user_properties": properties})).names == ("$set.plan",)


def test_a_device_has_a_fingerprint_where_there_are_both_ids() -> None:
    properties = {"plan": "plan"}
    both = job_of({"user_id": "id", "device_id": "device", "user_properties": properties})
    assert layout_for(both).names == ("$set.plan", "device_id")
    assert layout_for(job_of({"device_id": "device", "user_properties": properties})).names == ("$set.plan",)


@pytest.mark.parametrize(
    ("ignored", "counted"),
    [
        (["seen"], {"place", "$set.plan"}),
        (["country"], {"place", "$set.plan", "$set.seen"}),
        (["country", "region", "dma"], {"place", "$set.plan", "$set.seen"}),
        (["country", "region", "city", "dma"], {"$set.plan", "$set.seen"}),
    ],
)
def test_a_bundle_is_ignored_where_all_its_columns_are(ignored: list[str], counted: set[str]) -> None:
    place = {name: name for name in ("country", "region", "city", "dma")}
    identification = {"user_id": "id", **place, "user_properties": {"plan": "plan", "seen": "seen"}}
    layout = layout_for(job_of(identification, changes={"ignore": ignored}))
    assert set(layout.counted) == counted
    assert set(layout.names) == {"place", "$set.plan", "$set.seen"}


def test_a_constant_is_never_ignored() -> None:
    job = job_of(
        {"user_id": "id", "user_properties": {"seen": "seen", "source": {"value": "x"}}},
        changes={"ignore": ["seen"]},
    )
    assert layout_for(job).counted == ("$set.source",)


def test_by_user_there_is_one_fingerprint() -> None:
    layout = layout_for(job_of({"user_id": "id", "user_properties": {"plan": "plan"}}, changes="user"))
    assert (layout.names, layout.dtype.itemsize) == (("fingerprint",), 8)


def test_nothing_is_compared_where_the_job_says_so() -> None:
    job = job_of({"user_id": "id", "user_properties": {"plan": "plan"}}, changes="off")
    assert layout_of(job.identification, job.changes) is None
