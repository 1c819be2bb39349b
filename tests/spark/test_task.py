"""What a write is to do, and what one task does, without Spark: judged by what arrived at a sandbox.

The hashes that are expected of ids are those of Spark 4.3.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import EtlError
from etl.sandbox import Sandbox
from etl.spark.task import PartitionCheck, RejectsFile, remove_leftovers, send_partition, spark_hash
from etl.spark.write_order import OPTIONS, PropsyncSparkError, WriteOrder, make_order
from tests.commands import KEY
from tests.docs.pages import DOCS, table
from tests.examples import each_row

COUNTING = """
destination: {transport: batch}
identification:
  user_id: user_id
  user_properties:
    $set: {plan: plan}
    $add: {points: {column: points, type: integer}}
"""
SETTING = """
source: export
identification:
  user_id: user_id
  user_properties:
    plan: plan
"""
COLUMNS = {"user_id": "string", "plan": "string", "points": "bigint"}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPLITUDE_API_KEY", KEY)


def order_of(folder: Path, text: str = COUNTING, **options: object) -> WriteOrder:
    path = folder / "job.yml"
    path.write_text(text)
    given = {"job": path, "rate": "max", **options}
    return make_order({name: str(value) for name, value in given.items()}, COLUMNS)


def partition(number: int, count: int, users: int = 900, rows: int = 3) -> pa.Table:
    """The rows of a partition as Spark has them, in order."""
    names = sorted(f"user-{n}" for n in range(users) for _ in range(rows))
    whole = pa.table({"user_id": names, "plan": ["pro"] * len(names), "points": [1] * len(names)})
    return whole.filter(pa.array(spark_hash(pa.array(names)) % count == number))


def batches(some: pa.Table, rows: int = 100) -> Iterator[pa.RecordBatch]:
    return iter(some.to_batches(max_chunksize=rows))


def points(sandbox: Sandbox) -> dict[str, Any]:
    return {user: profile.properties.get("points") for user, profile in sandbox.profiles.users.items()}


@pytest.mark.parametrize("broken", [False, True])
def test_tasks_of_a_write_count_once_however_often_they_are_tried(
    sandbox: Sandbox, tmp_path: Path, broken: bool
) -> None:
    order = order_of(tmp_path, endpoint=sandbox.url, batch_size=20, rate=100_000)
    assert order.rate is not None
    try:
        pickled = pickle.dumps(order)  # as it comes to each task
        if broken:
            half = partition(1, 3, users=300)
            with pytest.raises(RuntimeError, match="gone"):
                send_partition(pickle.loads(pickled), 1, 6, failing(batches(half, 50), 5))
        results = [
            send_partition(pickle.loads(pickled), n, 7 + n, batches(partition(n, 3, users=300), 37))
            for n in range(3)
        ]
    finally:
        order.rate.stop()
    assert points(sandbox) == {f"user-{n}": 3 for n in range(300)}
    assert sum(one.tally.rows for one in results) == 900
    assert sum(one.tally.accepted + one.tally.merged for one in results) == 900
    assert (sandbox.stats.repeated_inserts > 0) is broken
    assert all(one.divisor % 3 == 0 for one in results)


def failing(some: Iterator[pa.RecordBatch], after: int) -> Iterator[pa.RecordBatch]:
    for _ in range(after):
        yield next(some)
    raise RuntimeError("gone")


def test_a_partition_without_rows_sends_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    order = order_of(tmp_path, endpoint=sandbox.url)
    assert order.rate is None
    assert send_partition(order, 3, 1, iter([])).tally.rows == 0


@pytest.mark.parametrize("at_once", [1, 10_000])
def test_rejects_are_kept_of_attempts_that_count(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("etl.spark.task._REJECTS_AT_ONCE", at_once)
    folder = tmp_path / "rejects"
    order = order_of(tmp_path, endpoint=sandbox.url, rejects_path=folder)
    bad = pa.table({"user_id": ["user-1", "x", "x"], "plan": ["pro"] * 3, "points": [1, 2, 3]})
    first, second = (send_partition(order, 0, attempt, batches(bad)) for attempt in (1, 2))
    with pytest.raises(RuntimeError, match="gone"):
        send_partition(order, 0, 3, failing(batches(bad), 1))
    RejectsFile(order, f"part-{order.run_id}-00001-9.parquet")  # of a worker that was killed
    (folder / f"_part-{order.run_id}-00001-9.parquet").write_bytes(b"half")
    (folder / "part-of-another-run.parquet").write_bytes(b"")
    assert first.rejects_by_code == second.rejects_by_code == {"short_id": 2}
    remove_leftovers(order, [second])
    assert second.rejects_file is not None
    assert {file.name for file in folder.iterdir()} == {
        Path(second.rejects_file).name,
        "part-of-another-run.parquet",
    }
    rows = pq.read_table(second.rejects_file).to_pylist()
    assert [(row["source"], row["row"], row["code"]) for row in rows] == [
        ("partition 0", 2, "short_id"),
        ("partition 0", 3, "short_id"),
    ]


def test_skipped_values_are_counted(sandbox: Sandbox, tmp_path: Path) -> None:
    text = COUNTING.replace("type: integer", "type: integer, invalid: skip")
    some = pa.table({"user_id": ["user-1", "user-2"], "plan": ["a", "b"], "points": ["many", "2"]})
    result = send_partition(order_of(tmp_path, text, endpoint=sandbox.url), 0, 1, batches(some))
    assert (result.skipped_by_column, result.tally.accepted) == ({"points": 1}, 2)


def test_too_many_rejects_end_a_task(sandbox: Sandbox, tmp_path: Path) -> None:
    order = order_of(tmp_path, endpoint=sandbox.url, max_rejects=2)
    bad = pa.table({"user_id": ["x"] * 9, "plan": ["pro"] * 9, "points": [1] * 9})
    with pytest.raises(
        PropsyncSparkError, match=r"partition 0 were rejected, and max_rejects is 2; row \d: .*x"
    ):
        send_partition(order, 0, 1, batches(bad))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (partition(0, 1), "users that belong to other tasks"),
        (partition(1, 3).sort_by([("user_id", "descending")]), "do not ascend"),
    ],
)
def test_rows_of_other_tasks_are_refused(
    sandbox: Sandbox, tmp_path: Path, rows: pa.Table, words: str
) -> None:
    with pytest.raises(PropsyncSparkError) as refused:
        send_partition(order_of(tmp_path, endpoint=sandbox.url), 1, 1, batches(rows))
    assert words in str(refused.value)
    assert 'df.repartition(n, "user_id").sortWithinPartitions("user_id", "updated_at")' in str(refused.value)


REFUSED = [
    (COUNTING.replace("batch", "identify"), {}, "$add over `transport: identify`"),
    (SETTING + "absent: unset\n", {}, "needs all users in one place"),
    (COUNTING + "run: {limit: 5}\n", {}, "write df.limit(n)"),
    (COUNTING, {"batch_sise": "5"}, "unknown option batch_sise; did you mean `batch_size`?"),
    (COUNTING, {"colour": "blue"}, "unknown option colour; the options are job, rejects_path,"),
    (COUNTING, {"batch_size": "many"}, "option batch_size: 'many' is not a valid integer"),
    (COUNTING, {"rate": "0"}, "option rate: '0' is not a rate"),
    (COUNTING, {"endpoint": "nowhere"}, "option endpoint: it"),
    (COUNTING, {"allow_http": "perhaps"}, "option allow_http: 'perhaps' is not a valid boolean"),
    (COUNTING, {"run_id": "1"}, "option run_id: '1' does not have 32"),
    (COUNTING, {"rejects_path": "nowhere://x"}, "rejects_path: "),
    (
        COUNTING,
        {"rate": "5", "rate_host": "192.0.2.77"},
        'give an address of the driver: .option("rate_host"',
    ),
    (COUNTING.replace("column: points", "column: point"), {}, "no column `point` (for"),
    (COUNTING.replace("user_id: user_id", "user_id: {column: points, path: a}"), {}, "and points is bigint"),
    ("identification: 5", {}, "job.yml:1"),
]


@pytest.mark.parametrize(("text", "options", "words"), REFUSED, ids=[words for _, _, words in REFUSED])
def test_what_can_not_be_sent_is_refused(
    tmp_path: Path, text: str, options: dict[str, str], words: str
) -> None:
    with pytest.raises((PropsyncSparkError, EtlError)) as refused:
        order_of(tmp_path, text, **options)
    assert words in str(refused.value)
    assert KEY not in str(refused.value)


def test_there_must_be_a_job_and_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PropsyncSparkError, match=r'write \.option\("job", "job\.yml"\)'):
        make_order({}, COLUMNS)
    monkeypatch.delenv("AMPLITUDE_API_KEY")
    with pytest.raises(EtlError, match="AMPLITUDE_API_KEY is not set"):
        order_of(tmp_path)


def test_options_of_the_job_file_count_where_no_others_are_given(tmp_path: Path) -> None:
    text = COUNTING + "run: {rate: 7, batch_size: 30, max_rejects: 1%, allow_http: true, min_rows: 50%}\n"
    order = order_of(tmp_path, text, batch_size=20)
    settings = order.settings
    assert (settings.rate, settings.batch_size, settings.allow_http) == (None, 20, True)
    assert str(settings.max_rejects) == "1% of the rows"
    assert order.unused == ("min_rows",)
    assert KEY not in repr(order)


def test_a_job_in_which_all_rows_have_one_id_needs_no_partitions(tmp_path: Path) -> None:
    text = COUNTING.replace("user_id: user_id", "user_id: {value: user-1}")
    assert order_of(tmp_path, text).id_column is None


def test_the_page_lists_the_options() -> None:
    listed = [name for row in table(DOCS / "spark.md", "option") for name in row[0].split(", ")]
    assert sorted(listed) == sorted(OPTIONS)


def test_the_rest_of_the_package_needs_no_spark() -> None:
    import etl.spark

    assert etl.spark.PropsyncSparkError is PropsyncSparkError
    with pytest.raises(AttributeError, match="Nothing"):
        _ = etl.spark.Nothing


# --- whether a task has all rows of its users ------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "hashes"),
    [
        (pa.array(["user-1", "ab", "äöü", ""]), [-802825514, -97053317, 746493922, 142593372]),
        (pa.array(["user-1"], pa.large_string()), [-802825514]),
        (pa.array([5], pa.int64()), [1607884268]),
        (pa.array([5], pa.int32()), [1023896466]),
        (pa.array([None, "ab"], pa.string()), [42, -97053317]),
    ],
)
def test_a_hash_is_spark_s(ids: pa.Array, hashes: list[int]) -> None:
    assert spark_hash(ids).tolist() == hashes


def test_part_of_an_array_hashes_like_its_texts() -> None:
    ids = pa.array([f"user-{n}" for n in range(100)])
    assert spark_hash(ids.slice(40, 20)).tolist() == spark_hash(ids)[40:60].tolist()


def partitions(count: int, rows: int = 5000) -> list[pa.Array]:
    ids = pa.array([f"user-{n:05}" for n in range(rows)])
    return [ids.filter(pa.array(np.mod(spark_hash(ids), count) == number)) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_rows_where_spark_puts_them_fit(count: int) -> None:
    for number, ids in enumerate(partitions(count)):
        check = PartitionCheck(number, sorted_by_id=True)
        assert check.fault(ids.slice(0, 3)) is check.fault(ids.slice(3)) is None
        assert check.divisor % count == 0


def test_rows_anywhere_do_not() -> None:
    mixed = pa.array([f"user-{n:05}" for n in range(0, 5000, 4)])
    assert "other tasks" in str(PartitionCheck(1, sorted_by_id=False).fault(mixed))
    # Of the first partition that can't be told before the number of all is known.
    first = PartitionCheck(0, sorted_by_id=False)
    assert first.fault(mixed) is None
    assert first.divisor % 4 != 0


def test_a_partition_that_was_put_behind_others_does_not() -> None:
    """As in a union of two DataFrames that are partitioned alike."""
    for number, ids in enumerate(partitions(4)):
        assert PartitionCheck(4 + number, sorted_by_id=False).fault(ids)


@each_row(
    ("batches", "fits"),
    [
        ([["a", "b"], [], ["b", "c"]], True),
        ([["a", "c"], ["b"]], False),
        ([["b", "a"]], False),
        ([[None, "a"], ["ä"]], True),
        ([["a"], [None]], False),
        ([["Z"], ["a"]], True),
        ([[2, 10], [11]], True),
        ([[2, 10], [9]], False),
        ([[None, -5], [3]], True),
    ],
)
def test_where_it_matters_ids_must_ascend(batches: list[list[Any]], fits: bool) -> None:
    kind = pa.int64() if isinstance(batches[0][-1], int) else pa.string()
    faults = []
    for sorted_by_id in (True, False):
        check = PartitionCheck(0, sorted_by_id=sorted_by_id)
        faults.append([check.fault(pa.array(ids, kind)) for ids in batches])
    assert (not any(faults[0])) is fits
    assert not any(faults[1])
