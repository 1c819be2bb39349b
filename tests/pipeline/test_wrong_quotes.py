"""Wrong quotes, repeated headers, marks and bytes, from a file to what the server has."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import TooManyRejectsError
from etl.pipeline.plan import plan_job
from etl.pipeline.settings import RejectLimit, Settings
from etl.reader import open_source
from etl.run_events import Event, Warned
from etl.sandbox import Sandbox
from tests.pipeline.nights import held, job_in, send

IDENTIFICATION = {"user_id": "id", "user_properties": {"note": "note"}}
PLAIN = [f"user-{number:05},note {number}" for number in range(3_000)]


def test_wrong_quotes_cost_their_line(tmp_path: Path, sandbox: Sandbox) -> None:
    path = tmp_path / "users.csv"
    lines = [
        "id,note",
        'user-1,"say ""x"""',
        'user-2,"24\\""',
        "user-3,plain",
        'user-4,"a"b',
        'user-5,5" disk',
    ]
    path.write_text("\n".join([*lines, 'user-6,"open', "user-7,last"]))
    summary = send(job_in(tmp_path, IDENTIFICATION), sandbox, [path])
    assert summary.rejects_by_code == {"stray_quote": 2, "unclosed_quote": 1}
    assert held(sandbox) == {
        "user-1": {"note": 'say "x"'},
        "user-3": {"note": "plain"},
        "user-5": {"note": '5" disk'},
        "user-7": {"note": "last"},
    }


def test_with_an_escape_character_every_value_is_what_it_should_be(tmp_path: Path, sandbox: Sandbox) -> None:
    path = tmp_path / "users.csv"
    path.write_text(
        "id,note\n"
        r'user-1,"size 24\""' "\n"
        r'user-2,"he said \"no\", twice"' "\n"
        r'user-3,"D:\\data\\"' "\n"
        r"user-4,x\,y" "\n"
        r"user-5,\N" "\n"
        'user-6,"two\\\nlines"\n'
        r'user-7,"ends early\"' "\n"
        'user-8,"quoted ""twice"""\n'
    )  # fmt: skip
    job = job_in(tmp_path, IDENTIFICATION, csv={"escape": "\\"})
    summary = send(job, sandbox, [path])
    assert {user: values["note"] for user, values in held(sandbox).items()} == {
        "user-1": 'size 24"',
        "user-2": 'he said "no", twice',
        "user-3": "D:\\data\\",
        "user-4": "x,y",
        "user-5": "\\N",
        "user-6": "two\nlines",
        "user-8": 'quoted "twice"',
    }
    assert summary.rejects_by_code == {"stray_quote": 1}


def test_joined_files_are_read_as_one(tmp_path: Path, sandbox: Sandbox) -> None:
    path = tmp_path / "users.csv.gz"
    parts = [
        "\ufeffid,note\nuser-1,a\n",
        "\ufeffid,note\r\nuser-2,b\r\n",
        '"id","note"\nuser-3,c\n',
        "\ufeffuser-4,d",
    ]
    path.write_bytes(b"".join(gzip.compress(part.encode()) for part in parts))
    summary = send(job_in(tmp_path, IDENTIFICATION), sandbox, [path])
    assert summary.rejects_by_code == {"repeated_header": 2}
    assert list(held(sandbox)) == ["user-1", "user-2", "user-3", "user-4"]


@pytest.mark.parametrize("closed", [[], ['user-x,y"z']])
def test_lines_that_a_quote_swallowed_count_as_rejects_do(
    tmp_path: Path, sandbox: Sandbox, closed: list[str]
) -> None:
    path = tmp_path / "users.csv"
    path.write_text("\n".join(["id,note", *PLAIN[:100], 'user-x,"x', *PLAIN[100:], *closed]))
    job, limit = job_in(tmp_path, IDENTIFICATION), RejectLimit(percent=1)
    for _ in range(2):  # a run that goes on has not forgotten them
        with pytest.raises(TooManyRejectsError, match=r"1 of .* rows were rejected, and 2,90[01] lines"):
            send(job, sandbox, [path], max_rejects=limit)
    summary = send(job, sandbox, [path])
    assert (summary.tally.rejected, summary.tally.accepted) == (1, 3_000 + len(closed))
    assert summary.status == "finished"


def test_a_job_that_takes_the_first_row_for_the_header_is_warned_of(tmp_path: Path, sandbox: Sandbox) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user-1,pro\nuser-2,free\n")
    heard: list[Event] = []
    chosen = {"user_id": "user-1", "user_properties": {"plan": "pro"}}
    send(job_in(tmp_path, chosen), sandbox, [path], listener=heard.append)
    (warning,) = [event for event in heard if isinstance(event, Warned)]
    assert (warning.code, "`user-1`" in warning.message) == ("header", True)


def test_binary_ids_arrive_as_digits_with_a_warning(tmp_path: Path, sandbox: Sandbox) -> None:
    ids = pa.array([bytes(range(16)), bytes(range(100, 116))], pa.binary(16))
    pq.write_table(pa.table({"id": ids, "note": ["a", "b"]}), tmp_path / "users.parquet")
    heard: list[Event] = []
    send(job_in(tmp_path, IDENTIFICATION), sandbox, [tmp_path / "users.parquet"], listener=heard.append)
    assert list(held(sandbox)) == [bytes(range(16)).hex(), bytes(range(100, 116)).hex()]
    assert [event.code for event in heard if isinstance(event, Warned)] == ["binary_id"]
    chosen = {"user_id": {"column": "id", "transform": "uuid"}, "user_properties": {"note": "note"}}
    job = job_in(tmp_path / "other", chosen)
    sandbox.reset()
    send(job, sandbox, [tmp_path / "users.parquet"])
    assert "00010203-0405-0607-0809-0a0b0c0d0e0f" in held(sandbox)


def test_check_and_run_say_what_a_folder_leaves_out(tmp_path: Path, sandbox: Sandbox) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "a.csv").write_text("id,note\nuser-1,x\n")
    (folder / "b.csv.xz").write_bytes(b"")
    job, heard = job_in(tmp_path, IDENTIFICATION), list[Event]()
    found = plan_job(job, open_source([folder]), settings=Settings())
    send(job, sandbox, [folder], listener=heard.append)
    for warnings in (found.warnings, [event for event in heard if isinstance(event, Warned)]):
        assert [(one.code, ".xz (1)" in one.message) for one in warnings] == [("left_out", True)]
