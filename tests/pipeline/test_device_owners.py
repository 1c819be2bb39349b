"""Whose a device is, as far as the rows of a run say; rows of one user are never in flight together."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.amplitude.requests import TRANSPORT_RULES
from etl.amplitude.responses import Accepted, Verdict
from etl.encoder import Limits
from etl.job.spec import Job
from etl.model import Body
from etl.pipeline import row_pipeline as module
from etl.pipeline.row_pipeline import DeviceOwners, RowPipeline
from etl.reader import open_source
from tests.examples import each_row
from tests.pipeline.nights import write
from tests.sender.fake_server import carry_all
from tests.sender.virtual_time import run_virtual

ROWS = st.lists(
    st.tuples(st.integers(1, 4) | st.none(), st.integers(11, 14) | st.none()).filter(any), max_size=40
)


def keys_of(user: int | None, device: int | None) -> list[int]:
    """As `keys.user_keys` makes them of two ids."""
    first = device if user is None else user
    second = ~np.uint64(first or 0) if device is None else device
    return [int(first or 0), int(second)]


@given(ROWS, st.integers(1, 5), st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_a_device_is_the_last_one_s_who_had_it(
    rows: list[tuple[int | None, int | None]], size: int, unsorted: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_UNSORTED", unsorted)
        links, owners = DeviceOwners(), dict[int, int]()
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            keys = np.array([keys_of(*row) for row in part], np.uint64)
            links.learn(keys)
            owners |= {device: user for user, device in part if user and device}
            expected = [owners.get(device or 0, device) if user is None else user for user, device in part]
            found = links.users(keys)
            assert (keys[:, 0] if found is None else found).tolist() == expected


class Slow:
    """A destination that takes a second for each request, and notes when they came."""

    rules = TRANSPORT_RULES["identify"]

    def __init__(self) -> None:
        self.came: list[float] = []

    async def pack(self, body: Body) -> Body:
        return body

    async def post(self, request: Body) -> Verdict:
        self.came.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
        return Accepted()


@each_row(
    ("before", "two", "together"),
    [
        ([("user-a", "phone-1")], [("user-a", ""), ("", "phone-1")], False),
        ([("user-a", "phone-1")], [("", "phone-1"), ("user-a", "")], False),
        ([("user-a", "phone-1")], [("", "phone-1"), ("user-a", "phone-3")], False),
        ([("user-a", "phone-1"), ("user-a", "phone-2")], [("", "phone-1"), ("", "phone-2")], False),
        ([("user-a", "phone-1")], [("user-a", ""), ("", "phone-2")], True),
        ([("user-a", "phone-1"), ("user-b", "phone-1")], [("user-a", ""), ("", "phone-1")], True),
        ([], [("user-a", ""), ("", "phone-1")], True),
    ],
)
def test_rows_of_a_device_and_of_its_user_are_not_in_flight_together(
    tmp_path: Path, before: list[tuple[str, str]], two: list[tuple[str, str]], together: bool
) -> None:
    exported = [*before, ("user-x", ""), *two]
    path = write(
        tmp_path / "users.csv",
        [{"id": user, "device": device, "plan": n} for n, (user, device) in enumerate(exported)],
    )
    identification = {"user_id": "id", "device_id": "device", "user_properties": {"plan": "plan"}}
    job = Job.of({"source": "users.csv", "identification": identification}, folder=tmp_path)
    pipeline = RowPipeline(job, open_source([str(path)]), limits=Limits(identifications=1))
    chunks = [chunk for some in pipeline.chunks(pipeline.rows.files()) for chunk in some]
    server = Slow()
    # What comes before is long done; until the first answer, requests go one by one.
    journey = run_virtual(carry_all(chunks[-3:], server))
    assert journey.total.tally.accepted == 3
    assert (server.came[1] == server.came[2]) == together
