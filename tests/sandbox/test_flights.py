from __future__ import annotations

from etl.sandbox.flights import Flights, UserKey


def users(*names: str) -> frozenset[UserKey]:
    return frozenset((name, "") for name in names)


def here() -> bool:
    return False


def gone() -> bool:
    return True


def test_a_user_in_two_open_requests_is_noticed() -> None:
    flights = Flights()
    first, second = flights.begin(here), flights.begin(here)
    assert flights.board(first, users("a", "b", "c")) == 0
    assert flights.board(second, users("b", "c", "d")) == 2


def test_a_request_that_began_before_the_other_ended_is_noticed() -> None:
    flights = Flights()
    first, second = flights.begin(here), flights.begin(here)
    flights.board(first, users("a"))
    flights.end(first)
    assert flights.board(second, users("a")) == 1


def test_requests_one_after_the_other_never_meet() -> None:
    flights = Flights()
    other = flights.begin(here)
    for _ in range(3):
        flight = flights.begin(here)
        assert flights.board(flight, users("a")) == 0
        flights.end(flight)
    flights.end(other)


def test_a_request_whose_client_hung_up_doesnt_count_against_its_resend() -> None:
    flights = Flights()
    lost = flights.begin(gone)
    flights.board(lost, users("a"))
    resend = flights.begin(here)
    assert flights.board(resend, users("a")) == 0
    flights.end(lost)
    flights.end(resend)


def test_what_is_over_is_forgotten() -> None:
    flights = Flights()
    for _ in range(100):
        flights.end(flights.begin(here))
    assert len(flights._flights) == 0
