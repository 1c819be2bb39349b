from __future__ import annotations

from etl.sandbox.profiles import UserKey
from etl.sandbox.stats import RequestsInFlight


def users(*names: str) -> frozenset[UserKey]:
    return frozenset((name, "") for name in names)


def here() -> bool:
    return False


def gone() -> bool:
    return True


def test_a_user_in_two_open_requests_is_noticed() -> None:
    in_flight = RequestsInFlight()
    first, second = in_flight.begin(here), in_flight.begin(here)
    assert in_flight.set_users(first, users("a", "b", "c")) == 0
    assert in_flight.set_users(second, users("b", "c", "d")) == 2


def test_a_request_that_began_before_the_other_ended_is_noticed() -> None:
    in_flight = RequestsInFlight()
    first, second = in_flight.begin(here), in_flight.begin(here)
    in_flight.set_users(first, users("a"))
    in_flight.end(first)
    assert in_flight.set_users(second, users("a")) == 1


def test_requests_one_after_the_other_never_meet() -> None:
    in_flight = RequestsInFlight()
    other = in_flight.begin(here)
    for _ in range(3):
        request = in_flight.begin(here)
        assert in_flight.set_users(request, users("a")) == 0
        in_flight.end(request)
    in_flight.end(other)


def test_a_request_whose_client_hung_up_doesnt_count_against_its_resend() -> None:
    in_flight = RequestsInFlight()
    lost = in_flight.begin(gone)
    in_flight.set_users(lost, users("a"))
    resend = in_flight.begin(here)
    assert in_flight.set_users(resend, users("a")) == 0
    in_flight.end(lost)
    in_flight.end(resend)


def test_what_is_over_is_forgotten() -> None:
    in_flight = RequestsInFlight()
    for _ in range(100):
        in_flight.end(in_flight.begin(here))
    assert len(in_flight._requests) == 0
