"""A row that is refused is a reject; a sender that is refused stops, cheaply, and hands nothing back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.amplitude.responses import KeyRefused, Refused, RefusedSome, SlowDown, Verdict
from etl.errors import DestinationError
from etl.model import Chunk
from tests.examples import combinations
from tests.sender.fake_server import Carried, Destination, carry_all, chunk_of, few
from tests.sender.virtual_time import run_virtual

Answer = Callable[[list[str], float], Verdict | None]


def names(count: int) -> list[str]:
    return [f"user-{n:04d}" for n in range(count)]


def chunks_of(users: list[str], size: int) -> list[Chunk]:
    return [chunk_of(users[at : at + size], at + 1) for at in range(0, len(users), size)]


def naming_all(users: list[str], now: float) -> Verdict:
    return RefusedSome(400, "bad events", dict.fromkeys(range(len(users)), "missing time"))


def naming_first(users: list[str], now: float) -> Verdict:
    return RefusedSome(400, "bad events", {0: "missing time"})


EVERYTHING: dict[str, Answer] = {
    "403": lambda users, now: Refused(403, "blocked"),
    "400": lambda users, now: Refused(400, "no"),
    "413": lambda users, now: Refused(413, "large"),
    "all named": naming_all,
    "first named": naming_first,
}


def stopped(chunks: list[Chunk], server: Destination, slots: int) -> tuple[DestinationError, Carried]:
    carried = Carried()
    with pytest.raises(DestinationError) as caught:
        run_virtual(carry_all(chunks, server, slots=slots, carried=carried))
    return caught.value, carried


@pytest.mark.parametrize(
    ("name", "size", "slots"),
    combinations(list(EVERYTHING), [7, 100, 2000], [1, 8, 64], also=[("403", 7, 64), ("403", 2000, 1)]),
)
def test_who_is_refused_everything_stops_within_sixty_requests(name: str, size: int, slots: int) -> None:
    answer = EVERYTHING[name]
    server = Destination(answer=answer)
    error, carried = stopped(chunks_of(names(2000), size), server, slots)
    assert len(server.requests) <= 60
    assert not carried.committed
    assert "in a row were answered 4" in error.message
    assert "rows.csv row " in error.message
    assert error.hint
    assert "not rejects" in error.hint


def test_the_message_has_the_server_s_words_and_some_of_the_rows() -> None:
    error, _ = stopped(chunks_of(names(40), 1), Destination(answer=EVERYTHING["403"]), 1)
    assert error.message == (
        "the destination refuses everything: 20 rows in a row were answered 403 blocked; among them rows.csv "
        "row 1, 2, 3, 4, 5"
    )


@pytest.mark.parametrize("slots", [1, 8])
@pytest.mark.parametrize("answer", EVERYTHING.values(), ids=EVERYTHING)
def test_so_does_who_is_refused_everything_in_the_middle_of_a_run(answer: Answer, slots: int) -> None:
    server = Destination(answer=lambda users, now: answer(users, now) if now > 0.25 else None)
    users = names(3000)
    _, carried = stopped(chunks_of(users, 100), server, slots)
    refused = [when for when, _ in server.requests if when > 0.15]
    assert len(refused) <= 60
    assert not carried.rejects
    committed = {user for first in carried.committed for user in users[first - 1 : first + 99]}
    assert committed <= set(server.accepted)


@given(st.integers(1, 19), st.integers(1, 30), st.integers(1, 8), st.sampled_from(list(EVERYTHING)))
@settings(max_examples=few(30), deadline=None)
def test_a_few_rows_that_are_all_bad_are_rejects(count: int, size: int, slots: int, kind: str) -> None:
    server = Destination(answer=EVERYTHING[kind])
    carried = run_virtual(carry_all(chunks_of(names(count), size), server, slots=slots))
    assert [reject.row for reject in carried.rejects] == list(range(1, count + 1))
    assert {reject.code for reject in carried.rejects} == {"too_big" if kind == "413" else "malformed"}


@given(st.integers(0, 900), st.integers(20, 150), st.sampled_from([50, 100, 500, 2000]), st.booleans())
@settings(max_examples=few(25), deadline=None)
def test_bad_rows_side_by_side_are_rejects_as_long_as_others_are_good(
    begin: int, count: int, size: int, named: bool
) -> None:
    """Also where they are the first ones, and more than would end a run."""
    users = names(1200)
    bad = frozenset(users[begin : begin + count])

    def answer(found: list[str], now: float) -> Verdict | None:
        places = [place for place, user in enumerate(found) if user in bad]
        if places and named:
            return RefusedSome(400, "bad", dict.fromkeys(places, "x"))
        return Refused(400, "bad") if places else None

    server = Destination(answer=answer)
    carried = run_virtual(carry_all(chunks_of(users, size), server, slots=8))
    assert [reject.row for reject in carried.rejects] == list(range(begin + 1, begin + len(bad) + 1))
    assert sorted(server.accepted) == sorted(set(users) - bad)


@pytest.mark.parametrize("size", [100, *(pytest.param(size, marks=pytest.mark.soak) for size in (10, 1000))])
def test_thirty_bad_rows_at_the_start_with_one_in_each_later_request_are_rejects(size: int) -> None:
    """No request that is sent whole passes; single rows from elsewhere do."""
    users = names(2000)
    bad = {*range(30), *range(35, 2000, 10)}
    server = Destination(poison=frozenset(users[n] for n in bad))
    carried = run_virtual(carry_all(chunks_of(users, size), server, slots=8))
    assert [reject.row for reject in carried.rejects] == [n + 1 for n in sorted(bad)]
    assert carried.total.tally.accepted == 2000 - len(bad)


@given(st.sets(st.integers(0, 199), max_size=60), st.integers(1, 60), st.integers(1, 8))
@settings(max_examples=few(20), deadline=None)
def test_wherever_bad_rows_stand_the_others_arrive(bad: set[int], size: int, slots: int) -> None:
    users = names(300)
    server = Destination(poison=frozenset(users[n] for n in bad))
    longest = max(
        (len(run) for run in "".join("x" if n in bad else " " for n in range(300)).split()), default=0
    )
    if longest >= 12:  # enough to end a run where no more than these are known yet
        return
    carried = run_virtual(carry_all(chunks_of(users, size), server, slots=slots))
    assert [reject.row for reject in carried.rejects] == [n + 1 for n in sorted(bad)]
    assert sorted(server.accepted) == [user for n, user in enumerate(users) if n not in bad]


@pytest.mark.parametrize("begin", [0, 37, 75])
def test_a_quarter_of_a_file_that_fits_one_request_may_be_bad(begin: int) -> None:
    bad = range(begin, begin + 25)
    server = Destination(poison=frozenset(names(100)[n] for n in bad))
    carried = run_virtual(carry_all([chunk_of(names(100))], server, slots=8))
    assert [reject.row for reject in carried.rejects] == [n + 1 for n in bad]


def test_refusals_that_are_not_alike_are_counted_apart() -> None:
    def answer(users: list[str], now: float) -> Verdict:
        return Refused(413, "large") if int(users[0][5:]) % 2 else Refused(403, "blocked")

    server = Destination(answer=answer)
    stopped(chunks_of(names(500), 1), server, 1)
    assert 39 <= len(server.requests) <= 60
    few = run_virtual(carry_all(chunks_of(names(38), 1), Destination(answer=answer), slots=1))
    assert len(few.rejects) == 38


def test_rows_that_wait_to_be_rejects_are_not_settled_if_the_run_stops() -> None:
    def answer(users: list[str], now: float) -> Verdict | None:
        return Refused(400, "bad") if "user-0000" in users else SlowDown(60.0, "slow")

    server = Destination(answer=answer)
    carried = run_virtual(carry_all(chunks_of(names(3), 1), server, slots=1, stop_after=5.0))
    assert sorted(carried.committed) == [-1]


def test_rows_that_wait_hold_up_nobody_and_are_settled_once_another_is_accepted() -> None:
    bad = frozenset(names(5))
    server = Destination(poison=bad)
    carried = run_virtual(carry_all(chunks_of(names(8), 1), server, slots=1))
    assert [reject.row for reject in carried.rejects] == [1, 2, 3, 4, 5]
    assert sorted(first for first in carried.committed if first > 0) == list(range(1, 9))


def test_a_user_whose_every_row_is_bad_keeps_its_order_and_ends() -> None:
    chunks = [chunk_of(["user-0001"], first) for first in range(1, 8)]
    server = Destination(answer=EVERYTHING["400"])
    carried = run_virtual(carry_all(chunks, server, slots=4))
    assert [reject.row for reject in carried.rejects] == list(range(1, 8))
    assert server.overlaps == 0


def test_a_hot_user_beside_bad_rows_blocks_neither() -> None:
    def answer(users: list[str], now: float) -> Verdict | None:
        if "user-0001" in users and now < 300:
            return SlowDown(None, "slow")
        return Refused(400, "bad") if {"user-0002", "user-0050"} & set(users) else None

    server = Destination(answer=answer)
    carried = run_virtual(carry_all(chunks_of(names(60), 10), server, slots=2))
    assert [reject.row for reject in carried.rejects] == [3, 51]
    assert carried.total.tally.accepted == 58


# --- the key ---------------------------------------------------------------------------------------------


def invalid_key(users: list[str], now: float) -> Verdict:
    return KeyRefused("Invalid API key", "check the API key", 400)


def test_a_key_that_was_never_good_costs_one_request() -> None:
    server = Destination(answer=invalid_key)
    error, _ = stopped(chunks_of(names(500), 10), server, 8)
    assert len(server.requests) == 1
    assert error.message == "the destination refuses the API key: 400 Invalid API key"


def test_a_row_that_makes_the_server_speak_of_the_key_is_a_reject_once_the_key_was_good() -> None:
    server = Destination(answer=lambda users, now: invalid_key(users, now) if "user-0250" in users else None)
    carried = run_virtual(carry_all(chunks_of(names(500), 100), server))
    assert [(reject.row, reject.code) for reject in carried.rejects] == [(251, "malformed")]
    assert carried.total.tally.accepted == 499


@pytest.mark.parametrize("left", [1, 5, 19, 1500])
def test_a_key_that_is_withdrawn_ends_the_run_however_little_is_left(left: int) -> None:
    users = names(1000 + left)
    late = frozenset(users[1000:])
    server = Destination(answer=lambda found, now: invalid_key(found, now) if late & set(found) else None)
    error, carried = stopped(chunks_of(users, 100), server, 4)
    assert "refuses the API key" in error.message
    assert error.hint == "check the API key"
    assert not carried.rejects
    assert len(server.requests) <= 10 + 60
