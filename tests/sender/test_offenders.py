"""Whom an answer names is taken out or waits alone, and the rest goes at once, byte for byte as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.amplitude.answers import Named
from etl.amplitude.requests import TRANSPORT_RULES
from etl.amplitude.responses import Accepted, Refused, RefusedSome, SlowDown, SlowDownSome, TryAgain, Verdict
from etl.model import Chunk
from etl.run_events import Event, Paused
from etl.sender.delivery import offenders_of, places_by_fault, verdict_for
from etl.subject import user_keys
from tests.sender.fake_server import Destination, carry_all, chunk_of, few
from tests.sender.virtual_time import run_virtual

Answer = Callable[[list[str], float], Verdict | None]


def names(count: int) -> list[str]:
    return [f"user-{n:04d}" for n in range(count)]


def refusing(bad: Iterable[str], *, first_only: bool = False) -> Answer:
    """A 400 that names the bad ones by index, or only the first of them."""
    wrong = frozenset(bad)

    def answer(users: list[str], now: float) -> Verdict | None:
        places = [place for place, user in enumerate(users) if user in wrong]
        named = places[:1] if first_only else places
        return RefusedSome(400, "bad", dict.fromkeys(named, "invalid value in time")) if places else None

    return answer


def slowing(hot: Iterable[str], *, until: float = math.inf, retry_after: float | None = None) -> Answer:
    """A 429 that names the hot ones, until some time."""
    wrong = frozenset(hot)

    def answer(users: list[str], now: float) -> Verdict | None:
        named = tuple(user for user in users if user in wrong)
        return SlowDownSome(retry_after, "slow", throttled=Named(named)) if named and now < until else None

    return answer


@given(st.sets(st.integers(0, 499), max_size=60))
@settings(max_examples=few(30), deadline=None)
def test_rows_that_are_named_cost_one_request_in_all(bad: set[int]) -> None:
    users = names(500)
    server = Destination(answer=refusing(users[n] for n in bad))
    carried = run_virtual(carry_all([chunk_of(users)], server))
    assert [reject.row for reject in carried.rejects] == [n + 1 for n in sorted(bad)]
    assert server.accepted == [user for n, user in enumerate(users) if n not in bad]
    assert len(server.requests) == 1 + (len(bad) > 0)


def test_a_named_row_is_handed_back_with_what_is_wrong_with_it() -> None:
    def answer(users: list[str], now: float) -> Verdict | None:
        faults = {1: "missing user_id", 2: "silenced", 99: "nobody"}
        return RefusedSome(400, "bad events", faults) if len(users) == 4 else None

    carried = run_virtual(carry_all([chunk_of(names(4))], Destination(answer=answer)))
    assert [(reject.row, reject.code, reject.reason) for reject in carried.rejects] == [
        (2, "malformed", "the server answered 400: bad events: missing user_id"),
        (3, "malformed", "the server answered 400: bad events: silenced"),
    ]
    assert carried.total.tally.accepted == 2


@given(st.sets(st.integers(0, 499), max_size=40))
@settings(max_examples=few(30), deadline=None)
def test_where_only_the_first_is_named_requests_stay_few(bad: set[int]) -> None:
    users = names(500)
    server = Destination(answer=refusing((users[n] for n in bad), first_only=True))
    carried = run_virtual(carry_all([chunk_of(users)], server))
    assert [reject.row for reject in carried.rejects] == [n + 1 for n in sorted(bad)]
    assert sorted(server.accepted) == [user for n, user in enumerate(users) if n not in bad]
    # One request for each that is named, one for each part that is left, and every sixth one halves.
    k = len(bad)
    assert len(server.requests) <= 1 + k + 2 * math.ceil(k / 5)


@pytest.mark.parametrize("places", [[500], [2**31 - 1, 700]])
def test_names_that_help_nobody_lead_to_halving(places: list[int]) -> None:
    def answer(users: list[str], now: float) -> Verdict | None:
        return RefusedSome(400, "bad", dict.fromkeys(places, "x")) if "user-0042" in users else None

    carried = run_virtual(carry_all([chunk_of(names(500))], Destination(answer=answer)))
    assert [(reject.row, reject.reason) for reject in carried.rejects] == [
        (43, "the server answered 400: bad")
    ]
    assert carried.total.tally.accepted == 499


def test_a_named_hot_user_waits_alone_and_nobody_else_waits_at_all() -> None:
    users, heard = names(2000), list[Event]()
    for at in range(50, 2000, 100):
        users[at] = "hot-user"
    chunks = [chunk_of(users[at : at + 100], at + 1) for at in range(0, 2000, 100)]
    calm = run_virtual(
        carry_all([chunk_of(names(2000)[at : at + 100], at + 1) for at in range(0, 2000, 100)], Destination())
    )
    server = Destination(answer=slowing(["hot-user"], until=600), rules=TRANSPORT_RULES["batch"])
    carried = run_virtual(carry_all(chunks, server, listener=heard.append))
    others = max(time for user, time in server.times.items() if user != "hot-user")
    assert others <= 2 * calm.seconds + 1
    assert server.accepted.count("hot-user") == 20
    assert server.overlaps == 0
    assert carried.total.tally.accepted == 2000
    assert not [event for event in heard if isinstance(event, Paused)]


@pytest.mark.parametrize(("retry_after", "least"), [(None, 30.0), (7.0, 7.0)])
def test_a_named_user_waits_as_long_as_is_said(retry_after: float | None, least: float) -> None:
    answer = slowing(["user-0001"], until=1.0, retry_after=retry_after)
    server = Destination(answer=answer, rules=TRANSPORT_RULES["batch"])
    run_virtual(carry_all([chunk_of(names(3))], server))
    assert [users for _, users in server.requests] == [
        ["user-0000", "user-0001", "user-0002"],
        ["user-0000", "user-0002"],
        ["user-0001"],
    ]
    assert server.requests[1][0] == pytest.approx(0.1)
    assert least + 0.1 <= server.requests[2][0] <= least * 1.25 + 0.2


def test_a_named_user_who_is_throttled_for_ever_is_handed_back() -> None:
    server = Destination(answer=slowing(["user-0007", "user-0008"]))
    carried = run_virtual(carry_all([chunk_of(names(20))], server, outage=600))
    assert [(reject.row, reject.code) for reject in carried.rejects] == [(8, "transient"), (9, "transient")]
    assert carried.total.tally.accepted == 18
    assert 600 <= carried.seconds <= 800


def test_who_is_over_the_quota_of_the_day_is_handed_back_at_once() -> None:
    def answer(users: list[str], now: float) -> Verdict | None:
        quota = Named(("user-0002", "user-0003"))
        places = tuple(place for place, user in enumerate(users) if user in quota.users)
        return (
            SlowDownSome(None, "too many", throttled=Named((), (), places), over_quota=quota)
            if places
            else None
        )

    carried = run_virtual(carry_all([chunk_of(names(9))], Destination(answer=answer)))
    assert [(reject.row, reject.code) for reject in carried.rejects] == [
        (3, "daily_quota"),
        (4, "daily_quota"),
    ]
    assert carried.rejects[0].reason == "over its quota for the day; the server answered 429: too many"
    assert carried.total.tally.accepted == 7
    assert carried.seconds < 1


@given(st.lists(st.sampled_from(names(12)), min_size=1, max_size=40), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=few(40), deadline=None)
def test_users_keep_their_order_whoever_is_held(users: list[str], size: int, slots: int) -> None:
    parts = [list(dict.fromkeys(users[at : at + size])) for at in range(0, len(users), size)]
    chunks, first = [], 1
    for part in parts:
        chunks.append(chunk_of(part, first))
        first += len(part)
    tries = 0

    def answer(found: list[str], now: float) -> Verdict | None:
        nonlocal tries
        tries += 1
        return (
            SlowDownSome(None, "slow", throttled=Named((found[tries % len(found)],))) if tries % 3 else None
        )

    server = Destination(answer=answer)
    carried = run_virtual(carry_all(chunks, server, slots=slots))
    assert server.overlaps == 0
    assert carried.total.tally.accepted == sum(map(len, parts))


def test_one_hot_user_after_the_other_is_found_in_bounded_time() -> None:
    hot = names(40)[::2]

    def answer(users: list[str], now: float) -> Verdict | None:
        found = [user for user in users if user in hot]
        return SlowDownSome(None, "slow", throttled=Named((found[0],))) if found and now < 100 else None

    server = Destination(answer=answer)
    carried = run_virtual(carry_all([chunk_of(names(40))], server))
    assert carried.total.tally.accepted == 40
    assert len(server.requests) < 400


@pytest.mark.parametrize("counted", [0, 8, 9, 11])
def test_rows_that_are_not_counted_as_they_were_sent_are_handed_back_in_doubt(counted: int) -> None:
    def answer(users: list[str], now: float) -> Verdict | None:
        return Accepted(counted if "user-0000" in users else len(users))

    chunks = [chunk_of(names(10)), chunk_of(names(20)[10:], 11)]
    chunks = [replace(chunk, fingerprints=np.ones((10, 1), np.uint32)) for chunk in chunks]
    carried = run_virtual(carry_all(chunks, Destination(answer=answer)))
    assert [(reject.row, reject.code) for reject in carried.rejects] == [
        (n, "uncounted") for n in range(1, 11)
    ]
    assert carried.rejects[0].reason == f"the server answered 200 and counted {counted} of 10 events"
    tally = carried.total.tally
    assert (tally.accepted, tally.rejected, tally.in_doubt) == (10, 10, 1)
    assert tally.uncounted == max(0, 10 - counted)
    assert {sent.end for sent in carried.committed[1].sent} == {"in_doubt"}
    assert {sent.end for sent in carried.committed[11].sent} == {"accepted"}


@pytest.mark.parametrize("first", [TryAgain(False, "502"), SlowDown(None, "slow")])
def test_what_a_later_try_counts_too_few_of_is_accepted_and_counted(first: Verdict) -> None:
    tries = 0

    def answer(users: list[str], now: float) -> Verdict | None:
        nonlocal tries
        tries += 1
        return first if tries == 1 else Accepted(len(users) - 2)

    carried = run_virtual(carry_all([chunk_of(names(10))], Destination(answer=answer)))
    assert not carried.rejects
    assert (carried.total.tally.accepted, carried.total.tally.uncounted) == (10, 2)


def test_after_a_lost_answer_parts_of_the_request_may_have_been_counted_too() -> None:
    """An answer is lost, then the event of one is refused: the rest may have been taken at the first try."""
    tries = 0

    def answer(users: list[str], now: float) -> Verdict | None:
        nonlocal tries
        tries += 1
        if tries == 1:
            return TryAgain(False, "502")
        return RefusedSome(400, "bad", {3: "x"}) if tries == 2 else Accepted(0)

    carried = run_virtual(carry_all([chunk_of(names(10))], Destination(answer=answer)))
    assert [(reject.row, reject.code) for reject in carried.rejects] == [(4, "malformed")]
    assert (carried.total.tally.accepted, carried.total.tally.uncounted) == (9, 9)


def test_a_run_that_goes_on_may_have_sent_as_much_as_was_under_way() -> None:
    """The events of at most as many chunks as can have been in flight may be known from before."""
    chunks = [chunk_of(names(50)[at : at + 10], at + 1) for at in range(0, 50, 10)]
    server = Destination(answer=lambda users, now: Accepted(len(users) // 2))
    carried = run_virtual(carry_all(chunks, server, resent=3))
    assert carried.total.tally.accepted == 30
    assert {reject.code for reject in carried.rejects} == {"uncounted"}
    assert len(carried.rejects) == 20


def keyed(columns: dict[str, list[str | None]]) -> Chunk:
    rows = pa.record_batch({name: pa.array(ids, pa.string()) for name, ids in columns.items()})
    part = chunk_of([f"row-{n}" for n in range(rows.num_rows)])
    return Chunk(**{name: getattr(part, name) for name in Chunk.__slots__} | {"keys": user_keys(rows)})


def test_users_and_devices_are_told_apart() -> None:
    same = ["same-id-1", "same-id-2", None]
    slow = SlowDownSome(None, "slow", throttled=Named(("same-id-1",), ("same-id-2",), (2, 9)))
    users, devices = keyed({"user_id": same}), keyed({"device_id": same})
    assert offenders_of(users, slow)[1].tolist() == [0, 2]
    assert offenders_of(devices, slow)[1].tolist() == [1, 2]
    both = keyed({"user_id": ["same-id-2", None, "other-1"], "device_id": [None, "same-id-2", "same-id-1"]})
    assert offenders_of(both, slow)[1].tolist() == [1, 2]


def test_over_the_quota_counts_for_more_than_throttled() -> None:
    part = chunk_of(names(4))
    both = SlowDownSome(
        None, "slow", throttled=Named(("user-0001", "user-0002"), (), (0,)), over_quota=Named(("user-0001",))
    )
    assert [places.tolist() for places in offenders_of(part, both)] == [[1], [0, 2], [3]]


def test_a_verdict_that_names_nobody_of_a_part_is_about_all_of_it() -> None:
    part = chunk_of(names(4))
    assert verdict_for(part, RefusedSome(400, "bad", {4: "x"})) == Refused(400, "bad")
    strangers = SlowDownSome(3.0, "slow", "3", throttled=Named(("stranger",)))
    assert verdict_for(part, strangers) == SlowDown(3.0, "slow", "3")
    some = RefusedSome(400, "bad", {4: "x", 3: "y", 0: "y"})
    assert verdict_for(part, some) is some
    assert {fault: places.tolist() for fault, places in places_by_fault(part, some).items()} == {"y": [0, 3]}
