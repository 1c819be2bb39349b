"""Each user is as likely as any other to be in a sample, what it proves holds, and so does what rows leave.

What is expected of a profile is what the operators leave, whatever it had before; tried on a sandbox's.
"""

from __future__ import annotations

import copy
import math
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.amplitude.responses import UserProfile
from etl.readback.user_sample import ExpectedProfile, UserSample, is_same, right_at_least
from etl.sandbox.api_rules import cut, update
from etl.sandbox.profiles import Profile
from tests.examples import each_row, examples


def batch(ids: list[str], first: int = 0) -> pa.RecordBatch:
    numbers = pa.array(range(first, first + len(ids)), pa.int64())
    properties = pa.StructArray.from_arrays([pa.StructArray.from_arrays([numbers], ["n"])], ["$set"])
    return pa.record_batch({"user_id": pa.array(ids, pa.string()), "user_properties": properties})


def sampled(ids: list[str], size: int, seed: int, cuts: list[int] | None = None) -> list[str]:
    sample, borders = UserSample(size, seed), [0, *sorted(cuts or []), len(ids)]
    for first, stop in pairwise(borders):
        sample.add(batch(ids[first:stop]), None)
    return [user.name for user in sample.users]


IDS = st.lists(st.integers(0, 30).map(lambda n: f"user-{n}"), max_size=60)


@given(ids=IDS, size=st.integers(1, 40), seed=st.integers(), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_a_sample_depends_on_the_seed_and_the_users_alone(
    ids: list[str], size: int, seed: int, cuts: list[int]
) -> None:
    found = sampled(ids, size, seed, [cut for cut in cuts if cut <= len(ids)])
    assert len(set(found)) == len(found) == min(size, len(set(ids)))
    assert found == sampled(sorted(ids, reverse=True), size, seed)


def test_every_user_is_equally_likely_however_many_rows_it_has() -> None:
    ids = [f"user-{n:03}" for n in range(100) for _ in range(1 + 50 * (n == 7))]
    draws = 400
    counts = dict.fromkeys(ids, 0)
    for seed in range(draws):
        sample = UserSample(10, seed)
        sample.add(batch(ids), None)
        for user in sample.users:
            counts[user.name] += 1
    # Each is drawn with odds of a tenth; six standard deviations are hardly ever exceeded.
    assert all(abs(count - draws / 10) < 6 * math.sqrt(draws * 0.09) for count in counts.values())


def test_users_of_a_sample_have_all_their_rows_and_memory_holds_the_sample() -> None:
    """Three rows a user, in three batches one after the other; row numbers are the values."""
    rows, batches, sample = 1_500, 18, UserSample(50, 1)
    tracemalloc.start()
    held = []
    for number in range(batches):
        ids = [f"user-{row % (rows // 3)}-{(number + row // (rows // 3)) // 3}" for row in range(rows)]
        sample.add(batch(ids, number * rows), None)
        held.append(tracemalloc.get_traced_memory()[0])
        rows_of = {user.name: user.expected.properties["n"] for user in sample.users}
    tracemalloc.stop()
    assert held[-1] < held[1] + 40_000
    for name, told in rows_of.items():
        column, group = map(int, name.split("-")[1:])
        pairs = [(n, row) for n in range(batches) for row in range(rows) if row % (rows // 3) == column]
        mine = [n * rows + row for n, row in pairs if (n + row // (rows // 3)) // 3 == group]
        assert [*told.older, told.value] == mine[-9:]


def tail(n: int, right: int, share: float) -> float:
    """The odds of at least so many right ones, term by term."""
    return math.fsum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(right, n + 1))


@each_row(("right", "wrong"), [(1, 0), (400, 0), (0, 3), (1, 1), (398, 2), (1, 99), (50, 50), (999, 1)])
def test_the_bound_is_exact(right: int, wrong: int) -> None:
    bound = right_at_least(right, wrong)
    if right == 0:
        assert bound == 0
        return
    assert tail(right + wrong, right, bound) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(("share", "sample"), [(0.99, 400), (0.9, 30), (0.5, 20), (0.999, 2000)])
def test_the_statement_is_true_at_least_as_often_as_it_says(share: float, sample: int) -> None:
    users, draws = 20_000, 10_000
    random = np.random.default_rng(7)
    right = random.hypergeometric(round(users * share), round(users * (1 - share)), sample, draws)
    bounds = {int(count): right_at_least(int(count), sample - int(count)) for count in np.unique(right)}
    holds = np.mean([bounds[int(count)] <= share for count in right])
    assert holds >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / draws)
    # And it says as much as it can: one right user fewer would be claimed too rarely.
    assert min(bounds.values()) > share - 6 / math.sqrt(sample)


# --- what rows leave in a profile ------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b"])
TEXT = st.one_of(st.text(max_size=4), st.sampled_from(["x" * 600, "y" * 1024, "é" * 1025, "z" * 3000]))
SCALARS = st.one_of(st.booleans(), st.integers(-5, 5), st.integers(2**52, 2**54), st.floats(-9, 9), TEXT)
LISTS = st.lists(SCALARS, max_size=3)
OBJECTS = st.dictionaries(st.sampled_from("pq"), SCALARS, max_size=2)
VALUES = st.one_of(SCALARS, LISTS, OBJECTS)
OPERANDS: dict[str, st.SearchStrategy[Any]] = {
    "$unset": st.just("-"),
    "$set": VALUES,
    "$setOnce": VALUES,
    "$add": st.one_of(st.integers(-9, 9), st.floats(-9, 9)),
    "$append": LISTS.filter(bool),
    "$prepend": LISTS.filter(bool),
    "$preInsert": LISTS.filter(bool),
    "$postInsert": LISTS.filter(bool),
    "$remove": LISTS.filter(bool),
}


@st.composite
def updates(draw: st.DrawFn) -> dict[str, Any]:
    """The user_properties of an identification, with one operator for each name."""
    found: dict[str, Any] = {"$clearAll": "-"} if draw(st.integers(0, 4)) == 0 else {}
    for name in draw(st.sets(NAMES, min_size=1)):
        operator = draw(st.sampled_from(sorted(OPERANDS)))
        found.setdefault(operator, {})[name] = draw(OPERANDS[operator])
    return found


def read_back(profile: Profile) -> UserProfile:
    properties = copy.deepcopy(profile.properties)
    return UserProfile(profile.user_id, (), properties, profile.groups, profile.fields)


def expected_of(rows: list[dict[str, Any]]) -> ExpectedProfile:
    expected = ExpectedProfile()
    for row in rows:
        expected.apply({"user_id": "user-1", "user_properties": row})
    return expected


@settings(max_examples=examples(600, 120))
@given(before=st.dictionaries(NAMES, VALUES), rows=st.lists(updates(), min_size=1, max_size=5))
@example({}, [{"$set": {"a": 1}}, {"$setOnce": {"a": 2}}])
@example({}, [{"$set": {"a": ["0"]}}, {"$remove": {"a": ["y" * 1024, "0"]}}])
@example({}, [{"$set": {"a": ["x" * 600]}}, {"$postInsert": {"a": ["x" * 600, "x" * 600, "0"]}}])
def test_what_the_rows_leave_is_right_whatever_was_there_before(
    before: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    profile = Profile("user-1", properties={name: cut(value) for name, value in before.items()})
    for row in rows:
        update(profile.properties, row)
    expected = expected_of(rows)
    found = expected.compare("user-1", read_back(profile))
    assert found.differences == []
    assert found.right + found.not_compared.total() == len(expected.properties)


@settings(max_examples=examples(600, 60))
@given(rows=st.lists(updates(), min_size=1, max_size=5), name=NAMES, value=VALUES)
def test_another_value_of_what_the_rows_decide_is_a_difference(
    rows: list[dict[str, Any]], name: str, value: Any
) -> None:
    """Of what they don't decide, nothing is said, but that a value is there."""
    profile = Profile("user-1")
    for row in rows:
        update(profile.properties, row)
    expected, right = expected_of(rows), profile.properties.get(name)
    profile.properties[name] = cut(value)
    told = expected.properties.get(name)
    found = expected.compare("user-1", read_back(profile))
    kinds = [one.kind for one in found.differences if one.property == name]
    if told is None or told.unknown:
        assert kinds == []
    elif told.value is None:
        assert kinds == ["not_unset"]
    else:
        assert bool(kinds) == (not is_same(told.value, cut(value), inexact=told.inexact)), (right, value)
    del profile.properties[name]
    found = expected.compare("user-1", read_back(profile))
    kinds = [one.kind for one in found.differences if one.property == name]
    must_be = told is not None and (told.present or (told.value is not None and not told.unknown))
    assert kinds == ["missing_property"] * must_be


@each_row(
    ("rows", "found", "kind"),
    [
        ([{"$set": {"a": "new"}}], "other", "other_value"),
        ([{"$set": {"a": "new"}}], 5, "other_type"),
        ([{"$set": {"a": 1}}], True, "other_type"),
        ([{"$set": {"a": 1}}], "1", "other_type"),
        ([{"$set": {"a": 1}}], 1.0, "right"),
        ([{"$set": {"a": 2**53 + 1}}], float(2**53), "right"),
        ([{"$set": {"a": "old"}}, {"$set": {"a": "new"}}], "old", "older_value"),
        ([{"$set": {"a": "old"}}, {"$unset": {"a": "-"}}], "old", "not_unset"),
        ([{"$set": {"a": "x" * 2000}}], "x" * 1024, "right"),
        ([{"$set": {"a": "x" * 2000}}], "x" * 1000, "other_value"),
        ([{"$set": {"a": "\U0001f600" * 2000}}], "\U0001f600" * 512, "right"),
        ([{"$set": {"a": ["x" * 1000, "y" * 30]}}], ["x" * 1000], "right"),
        ([{"$set": {"a": ["x", "y"]}}], ["x"], "other_value"),
        ([{"$set": {"a": ["x", "y"]}}], ["y", "x"], "other_value"),
        ([{"$set": {"a": 1}}, {"$add": {"a": 2}}], 3, "right"),
        ([{"$set": {"a": 1}}, {"$add": {"a": 2}}], 4, "other_value"),
        ([{"$set": {"a": 0.1}}, {"$add": {"a": 0.2}}], 0.3, "right"),
        ([{"$clearAll": "-", "$add": {"a": 2}}], 2, "right"),
        ([{"$add": {"a": 2}}], 5, "undecided"),
        ([{"$add": {"a": 2}}], None, "missing_property"),
        ([{"$setOnce": {"a": 2}}], 5, "undecided"),
        ([{"$setOnce": {"a": 2}}], None, "missing_property"),
        ([{"$unset": {"a": "-"}}, {"$setOnce": {"a": 2}}], 5, "other_value"),
        ([{"$remove": {"a": ["x"]}}], None, "undecided"),
        ([{"$clearAll": "-", "$setOnce": {"a": 2}}], 2, "right"),
        ([{"$clearAll": "-", "$setOnce": {"a": 2}}], 3, "other_value"),
        ([{"$set": {"a": ["x"]}}, {"$preInsert": {"a": ["y", "x"]}}], ["y", "x"], "right"),
        ([{"$set": {"a": ["x"]}}, {"$postInsert": {"a": ["y", "x"]}}], ["x", "y"], "right"),
        ([{"$set": {"a": ["x"]}}, {"$prepend": {"a": ["y", "x"]}}], ["y", "x", "x"], "right"),
        ([{"$set": {"a": ["x"]}}, {"$append": {"a": ["y", "x"]}}], ["x", "y", "x"], "right"),
        ([{"$set": {"a": ["x", "y"]}}, {"$remove": {"a": ["x"]}}], ["y"], "right"),
    ],
)
def test_kinds_of_differences(rows: list[dict[str, Any]], found: Any, kind: str) -> None:
    properties = {} if found is None else {"a": found}
    seen = expected_of(rows).compare("user-1", UserProfile("user-1", (), properties, {}, {}))
    kinds = [one.kind for one in seen.differences]
    kinds += ["right"] * seen.right + ["undecided"] * seen.not_compared.total()
    assert kinds == [kind]


def test_what_an_earlier_time_sets_later_is_undecided() -> None:
    expected = ExpectedProfile()
    for time, plan in ((5, "a"), (7, "b"), (6, "c")):
        expected.apply({"user_id": "user-1", "time": time, "user_properties": {"$set": {"plan": plan}}})
        seen = expected.compare("user-1", UserProfile("user-1", (), {"plan": plan}, None, {}))
        assert (seen.right, seen.differences, seen.not_compared.total()) == (plan != "c", [], plan == "c")


def test_groups_and_fields_are_compared_where_the_answer_has_them() -> None:
    expected = ExpectedProfile()
    expected.apply({"user_id": "user-1", "groups": {"org": "acme", "team": ["a", "b"]}, "language": "de"})
    expected.apply({"user_id": "user-1", "groups": {"org": ["other"]}, "city": "Bonn"})
    seen = expected.compare("user-1", UserProfile("user-1", (), {}, None, {}))
    assert (seen.right, seen.differences, seen.not_compared.total()) == (0, [], 4)
    answer = UserProfile("user-1", (), {}, {"org": "other", "team": ["b"]}, {"language": "de", "city": "Ulm"})
    seen = expected.compare("user-1", answer)
    assert seen.right == 2
    assert [(one.property, one.found) for one in seen.differences] == [
        ("groups.team", ["b"]),
        ("city", "Ulm"),
    ]
