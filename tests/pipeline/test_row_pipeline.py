"""A resumed run goes through a file once, however many gaps there are in it.

Whose a device is, rows show; rows of one user are never in flight together.
"""

from __future__ import annotations

import asyncio
import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import Job
from etl.amplitude.requests import TRANSPORT_RULES
from etl.amplitude.responses import Accepted, Verdict
from etl.encoder import Limits
from etl.model import Body
from etl.pipeline import row_pipeline as module
from etl.pipeline.row_pipeline import DeviceOwners, RowPipeline
from etl.reader import open_source
from etl.reader.file_reader import RowSpans
from etl.tally import RowRange
from tests.examples import each_row, examples, rarely
from tests.pipeline.nights import write
from tests.sender.fake_server import carry_all
from tests.sender.virtual_time import run_virtual

ROWS = 60_000
COUNTERS = Path("/proc/self/io")
JOB = {"name": "t", "identification": {"user_id": "id", "user_properties": {"plan": "plan"}}}


def csv_text(rows: int = ROWS) -> bytes:
    return b"id,plan\n" + b"".join(b"user-%d,plan %d\n" % (row, row * 7919 % 1000003) for row in range(rows))


def ndjson_text(rows: int = ROWS) -> bytes:
    lines = (b'{"id":"user-%d","plan":"plan %d"}\n' % (row, row * 7919 % 1000003) for row in range(rows))
    return b"".join(lines)


def parquet(path: Path, rows: int = ROWS) -> None:
    columns = {
        "id": [f"user-{row}" for row in range(rows)],
        "plan": [f"plan {row * 7919 % 1000003}" for row in range(rows)],
    }
    pq.write_table(pa.table(columns), path, row_group_size=rows // 4)


FILES: dict[str, Callable[[Path], object]] = {
    "users.csv": lambda path: path.write_bytes(csv_text()),
    "users.csv.gz": lambda path: path.write_bytes(gzip.compress(csv_text(), 1)),
    "users.ndjson": lambda path: path.write_bytes(ndjson_text()),
    "users.ndjson.bz2": lambda path: path.write_bytes(bz2.compress(ndjson_text(), 1)),
    "users.parquet": parquet,
}


def bytes_read() -> int:
    return int(COUNTERS.read_text().split()[1])


def pipeline(path: Path, **job: Any) -> RowPipeline:
    made = Job.of({**JOB, **job}, folder=path.parent)
    return RowPipeline(made, open_source([path]), limits=Limits(identifications=100))


def gaps(count: int, rows: int = ROWS, size: int = 50) -> list[RowRange]:
    return [RowRange(0, first, first + size) for first in range(1, rows, rows // count)]


@pytest.mark.skipif(not COUNTERS.exists(), reason="needs the counters of Linux")
@pytest.mark.parametrize(
    "name",
    ["users.csv", "users.ndjson.bz2", "users.parquet", *rarely("users.csv.gz", "users.ndjson")],
)
def test_eighty_gaps_cost_the_bytes_of_one_pass(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FILES[name](path)
    made = pipeline(path)
    list(made.chunks(gaps(2)))  # modules are read as well, the first time
    before = bytes_read()
    chunks = [chunk for some in made.chunks(gaps(80)) for chunk in some]
    assert bytes_read() - before < 1.5 * path.stat().st_size + (1 << 16)
    assert sum(len(chunk.numbers) for chunk in chunks) == 80 * 50


SPANS = st.lists(st.integers(1, 400), min_size=2, max_size=24, unique=True).map(sorted)


@settings(max_examples=examples(25, 5), deadline=None)
@given(borders=SPANS, open_end=st.booleans(), step=st.sampled_from([1, 2]))
@pytest.mark.parametrize("name", ["users.csv", "users.csv.gz", "users.ndjson", "users.parquet"])
def test_gaps_have_the_bodies_that_they_have_alone(
    name: str, tmp_path_factory: pytest.TempPathFactory, borders: list[int], open_end: bool, step: int
) -> None:
    folder = tmp_path_factory.mktemp("gaps")
    path = folder / name
    make = {"users.csv": csv_text, "users.ndjson": ndjson_text}
    if name == "users.parquet":
        parquet(path, 320)
    else:
        data = make[name.removesuffix(".gz")](320)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    made = pipeline(path)
    # Neighbours that touch stay two gaps, where the step is 1.
    found = [RowRange(0, first, stop) for first, stop in zip(borders[::step], borders[1::step], strict=False)]
    found += [RowRange(0, borders[-1])] if open_end else []
    together = [chunk for some in made.chunks(found) for chunk in some]
    alone = [chunk for gap in found for some in made.chunks([gap]) for chunk in some]
    whole = [chunk for some in made.chunks(made.rows.files()) for chunk in some]
    planned = [chunk for some in made.planned(None, lambda _: None, lambda _: None) for chunk in some]
    for ours, theirs in ((together, alone), (whole, planned)):
        bodies = [[(c.first, c.stop, b"".join(c.body)) for c in chunks] for chunks in (ours, theirs)]
        assert bodies[0] == bodies[1]


@given(borders=SPANS, open_end=st.booleans(), first=st.integers(1, 420), size=st.integers(1, 60))
def test_spans_are_what_their_rows_say(borders: list[int], open_end: bool, first: int, size: int) -> None:
    pairs: list[tuple[int, int | None]] = list(zip(borders[::2], borders[1::2], strict=False))
    if open_end:
        pairs.append((borders[-1], None))
    rows = {row for low, high in pairs for row in range(low, high or 500)}
    spans = RowSpans(pairs)
    assert spans.next(first) == min((row for row in rows if row >= first), default=None)
    within = {row for low, high in spans.within(first, first + size) for row in range(low, high)}
    assert within == {row for row in rows if first <= row < first + size}


@given(pairs=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20))).map(sorted))
def test_joined_spans_have_the_same_rows_once(pairs: list[tuple[int, int]]) -> None:
    spans = [(first, first + size) for first, size in pairs]
    rows = [row for low, high in RowSpans(spans).within(1, 500) for row in range(low, high)]
    assert rows == sorted({row for low, high in spans for row in range(low, high)})


def fail(_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("places", [(fail, id), (id, fail)])
def test_a_plan_that_stops_in_the_middle_raises_its_own_error(tmp_path: Path, places: Any) -> None:
    csv = tmp_path / "users.csv"
    csv.write_bytes(csv_text())
    look, watch = places
    made = pipeline(csv)
    with pytest.raises(ZeroDivisionError):
        list(made.planned(None, look, watch))


# --- whose a device is ------------------------------------------------------------------------------------

PAIRS = st.lists(
    st.tuples(st.integers(1, 4) | st.none(), st.integers(11, 14) | st.none()).filter(any), max_size=40
)


def keys_of(user: int | None, device: int | None) -> list[int]:
    """As `keys.user_keys` makes them of two ids."""
    first = device if user is None else user
    second = ~np.uint64(first or 0) if device is None else device
    return [int(first or 0), int(second)]


@given(PAIRS, st.integers(1, 5), st.integers(1, 8))
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
    made = RowPipeline(job, open_source([str(path)]), limits=Limits(identifications=1))
    chunks = [chunk for some in made.chunks(made.rows.files()) for chunk in some]
    server = Slow()
    # What comes before is long done; until the first answer, requests go one by one.
    journey = run_virtual(carry_all(chunks[-3:], server))
    assert journey.total.tally.accepted == 3
    assert (server.came[1] == server.came[2]) == together
