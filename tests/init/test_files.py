"""What `init` proposes for files that are written otherwise: escapes, bytes, columns that some files lack."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.init import Proposal, propose_job
from etl.job import Job, load_job
from etl.model import RowRange
from etl.pipeline import Settings
from etl.pipeline.rehearse import forecast, preview
from etl.reader import open_source


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def proposal_of(*locations: str) -> tuple[Proposal, Job]:
    proposal = propose_job(locations, Path("job.yml"))
    Path("job.yml").write_text(proposal.text)
    return proposal, load_job(Path("job.yml"), environ={})


def sent(job: Job) -> list[str]:
    return list(preview(job, open_source(job.source, csv=job.csv), count=100))


def rejects(job: Job) -> dict[str, int]:
    source = open_source(job.source, csv=job.csv)
    return dict(forecast(job, source, settings=Settings()).rejects_by_code)


@pytest.mark.parametrize(
    "lines",
    [
        ['user-1,"24\\"",x', "user-2,Laptop,y", 'user-3,"27\\"",z', "user-4,Phone,w"],
        ['user-1,"a \\"b\\" c",x', "user-2,d,y"],
        ['user-1,"a\\",b",x', "user-2,d,y"],  # as `"a\"` closes, there is a field too many
        ["user-1,a\\,b,x", "user-2,d,y"],
    ],
)
def test_an_escape_character_is_proposed_where_rows_can_be_read_with_it(lines: list[str]) -> None:
    Path("users.csv").write_text("\n".join(["user_id,device,plan", *lines]))
    proposal, job = proposal_of("users.csv")
    assert job.csv.escape == "\\"
    assert any("without `escape`" in note for note in proposal.notes)
    assert proposal.rejects == rejects(job) == {}
    assert len(sent(job)) == len(lines)


@pytest.mark.parametrize(
    "lines",
    [
        ["user-1,C:\\temp,x", "user-2,d,y"],  # read well without
        ['user-1,"a"b,x', "user-2,\\N,y"],  # no better with
        ["user-1,a\\,x,", "user-2,d,y", "user-3,e\\,z"],  # one row is gained, and two are lost
    ],
)
def test_no_escape_character_is_proposed_where_it_helps_nothing(lines: list[str]) -> None:
    Path("users.csv").write_text("\n".join(["user_id,device,plan", *lines]))
    _, job = proposal_of("users.csv")
    assert job.csv.escape == ""


@pytest.mark.parametrize("kind", [pa.binary(16), pa.binary(), pa.large_binary()])
def test_bytes_are_an_id_in_digits(kind: pa.DataType) -> None:
    ids = [bytes([200 + number, *range(15)]) for number in range(5)]
    pq.write_table(
        pa.table({"user_id": pa.array(ids, kind), "plan": ["a", "b"] * 2 + ["c"]}), "users.parquet"
    )
    _, job = proposal_of("users.parquet")
    assert "transform: [hex]" in Path("job.yml").read_text()
    assert [ids[0].hex() in sent(job)[0], len(sent(job)), rejects(job)] == [True, 5, {}]


def test_bytes_that_are_texts_are_texts() -> None:
    ids = pa.array([b"user-1", b"user-2"], pa.binary())
    pq.write_table(pa.table({"user_id": ids, "plan": ["a", "b"]}), "users.parquet")
    _, job = proposal_of("users.parquet")
    assert job.identification.fields["user_id"].transform == ()


def test_bytes_that_are_no_id_are_left_out_with_the_way_to_send_them() -> None:
    tokens = pa.array([bytes([200, 1]), bytes([201, 2])], pa.binary())
    pq.write_table(pa.table({"user_id": ["user-1", "user-2"], "token": tokens}), "users.parquet")
    proposal, job = proposal_of("users.parquet")
    assert "token" not in job.identification.operators.get("$set", {})
    assert "# token: {column: token, transform: [hex]}" in proposal.text
    assert "no value" not in proposal.text


def test_a_column_that_some_files_lack_is_proposed_for_ndjson_and_left_out_elsewhere() -> None:
    Path("a.ndjson").write_text('{"user_id": "user-1", "plan": "a", "left": "x"}\n')
    Path("b.ndjson").write_text('{"user_id": "user-2", "plan": "b"}\n')
    Path("a.csv").write_text("user_id,plan,left\nuser-1,a,x\n")
    Path("b.csv").write_text("user_id,plan\nuser-2,b\n")
    proposal, job = proposal_of("a.ndjson", "b.ndjson")
    assert "left" in job.identification.operators["$set"]
    assert len(sent(job)) == 2
    proposal, job = proposal_of("a.csv", "b.csv")
    assert "left" not in job.identification.operators["$set"]
    assert "missing: null" in " ".join(proposal.text.split())
    text = proposal.text.replace("    # left:", "    left:") + "missing: null\n"
    Path("job.yml").write_text(text)
    assert len(sent(load_job(Path("job.yml"), environ={}))) == 2


def test_it_says_what_a_folder_leaves_out() -> None:
    Path("in").mkdir()
    Path("in/users.csv").write_text("user_id,plan\nuser-1,a\n")
    Path("in/users.csv.xz").write_text("x")
    proposal, _ = proposal_of("in")
    assert any(".xz (1)" in note for note in proposal.notes)
    assert [batch.source for batch in open_source(["in"]).read(RowRange(0))] == ["in/users.csv"]
