"""One rate for all tasks: bookings of several connections add up, and the server ends."""

from __future__ import annotations

import subprocess
import time

import pytest

from etl.spark.rate_server import RateAddress, SharedRate, start_rate_server
from tests.commands import until


def test_tasks_share_one_rate() -> None:
    address = start_rate_server(1000.0, None, "127.0.0.1", "127.0.0.1")
    try:
        with address.connect() as one, address.connect() as other:
            tasks = [SharedRate(one), SharedRate(other)]
            began = time.monotonic()
            due = [task.book(500) + time.monotonic() - began for _ in range(3) for task in tasks]
            took = time.monotonic() - began
        # The sixth booking waits for five times 500 at 1,000 a second; a little slack is made up for.
        assert due == sorted(due)
        assert 2.3 <= due[-1] <= 2.6 + 2 * took
    finally:
        address.stop()
    until(lambda: has_ended(address))


def test_the_server_ends_with_the_process_that_it_serves() -> None:
    driver = subprocess.Popen(["sleep", "60"])
    address = start_rate_server(1000.0, None, "127.0.0.1", "127.0.0.1", parent=driver.pid)
    address.connect().close()
    driver.kill()
    driver.wait()
    until(lambda: has_ended(address))


def test_where_it_can_not_listen_it_says_so() -> None:
    with pytest.raises(OSError, match=r"can't listen on 192\.0\.2\.77"):
        start_rate_server(1.0, None, "192.0.2.77", "127.0.0.1")


def has_ended(address: RateAddress) -> bool:
    try:
        address.connect().close()
    except OSError:
        return True
    return False


def test_requests_have_a_rate_too_and_who_does_not_know_the_word_books_nothing() -> None:
    address = start_rate_server(None, 10.0, "127.0.0.1", "127.0.0.1")
    try:
        stranger = RateAddress(address.host, address.port, "guess")
        with stranger.connect() as connection, pytest.raises(OSError, match=r"ended|reset|Broken"):
            SharedRate(connection).book(1)
        with address.connect() as connection:
            task = SharedRate(connection)
            assert [round(task.book(1), 1) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.1], abs=0.1)
    finally:
        address.stop()
