from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.init import Proposal, column_proposals, facts, propose_job
from etl.job.spec import Job
from etl.pipeline.plan import plan_job
from etl.pipeline.preview import preview_rows
from etl.pipeline.settings import Settings
from etl.reader import open_source
from etl.tally import RowRange
from tests.examples import examples
from tests.init.proposals import job_of, proposed, proposed_for, rejects_of, table_source

REAL_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

names = st.one_of(
    st.sampled_from(
        ["yes", "null", "a: b", "#x", "$set", "user_id", "Email", "country", "1", "- a", "~", "'", "%a"]
    ),
    # Arrow ends a column's name at a NUL.
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)
texts = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "1",
            "0",
            "-1",
            "007",
            "none",
            "1.5",
            "12/31/2020",
            "2020-01-02",
            "true",
            "a;b",
            "{}",
            "[",
            "é",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
columns = st.one_of(
    st.lists(st.none() | texts, min_size=3, max_size=3).map(lambda values: pa.array(values, pa.string())),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3).map(
        lambda v: pa.array(v, pa.int64())
    ),
    st.lists(st.none() | st.floats(), min_size=3, max_size=3).map(
        lambda values: pa.array(values, pa.float64())
    ),
    st.lists(st.none() | st.booleans(), min_size=3, max_size=3).map(
        lambda values: pa.array(values, pa.bool_())
    ),
    st.lists(st.none() | st.dates(), min_size=3, max_size=3).map(
        lambda values: pa.array(values, pa.date32())
    ),
    st.lists(st.none() | st.binary(max_size=3), min_size=3, max_size=3).map(
        lambda values: pa.array(values, pa.binary())
    ),
    st.lists(st.lists(texts, max_size=2), min_size=3, max_size=3).map(
        lambda v: pa.array(v, pa.list_(pa.string()))
    ),
    st.just(pa.nulls(3)),
)
tables = st.dictionaries(names, columns, min_size=1, max_size=5).map(pa.table)


@pytest.mark.parametrize("empty", [False, True])
def test_of_a_wide_source_the_first_columns_are_looked_at_and_likely_ids(
    empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "LOOKED_AT", 60)
    monkeypatch.setattr(column_proposals, "MAX_PROPERTIES", 30)
    value = None if empty else "x"
    columns = {f"c{number}": pa.array([value, value], pa.string()) for number in range(60 + 500)}
    source = table_source(columns | {"user_id": ["user-1", "user-2"]})
    text = proposed(source).text
    assert "561 columns." in text
    assert "  user_id: user_id\n" in text
    assert ("500 columns are left out" in text) is empty
    assert ("the columns after these are left out" in text) is not empty


@settings(max_examples=examples(75), deadline=None)
@given(tables)
def test_a_proposal_is_a_job_that_rejects_what_it_said_and_no_more(table: pa.Table) -> None:
    source = open_source([table])
    try:
        proposal = proposed(source)
    except SourceError:
        return  # nothing in the table can be an id
    assert rejects_of(job_of(proposal, source), source) == proposal.rejects


def in_csv(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@settings(max_examples=examples(75), deadline=None)
@given(
    st.lists(names.filter(str.strip), min_size=1, max_size=4, unique=True),
    st.lists(st.lists(texts, min_size=4, max_size=4), max_size=6),
)
def test_the_same_holds_for_any_csv(
    tmp_path_factory: pytest.TempPathFactory, header: list[str], rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "users.csv"
    lines = [header, *(row[: len(header)] for row in rows)]
    path.write_text(
        "".join(",".join(map(in_csv, line)) + "\n" for line in lines), encoding="utf-8", newline=""
    )
    try:
        source = open_source([path])
    except SourceError:
        return  # such as a NUL in the header
    proposal = proposed(source)
    assert rejects_of(job_of(proposal, source), source) == proposal.rejects


def test_a_source_without_rows_is_judged_by_its_names(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("plan,user_id,email\n")
    proposal = propose_job([str(tmp_path / "users.csv")], None)
    assert "user_id: user_id" in proposal.text
    assert "0 rows" in proposal.notes[0]


def test_a_source_without_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("")
    with pytest.raises(SourceError, match="no column"):
        propose_job([str(tmp_path / "users.csv")], None)


def test_the_source_is_written_as_seen_from_the_job_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exports").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "exports" / "users $HOME.csv").write_text("user_id,plan\nperson-1,pro\n")
    monkeypatch.chdir(tmp_path)
    job_file = Path("jobs/nightly.yml")
    proposal = propose_job(["exports/users*.csv", "exports"], job_file)
    job_file.write_text(proposal.text)
    job = Job.load(job_file, environ={})
    assert job.name == "nightly"
    assert job.source == ("../exports/users*.csv", "../exports")
    assert "propsync check jobs/nightly.yml" in proposal.text
    assert rejects_of(job, open_source(job.source, csv=job.csv, folder=job.folder)) == {}


def test_a_dollar_in_a_path_is_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("${X}.csv").write_text("user_id,plan\nperson-1,pro\n")
    Path("job.yml").write_text(propose_job(["${X}.csv"], Path("job.yml")).text)
    assert Job.load(Path("job.yml"), environ={}).source == ("${X}.csv",)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_an_unusual_delimiter_is_written(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "users.csv"
    path.write_text(f"user_id{delimiter}score\nperson-1{delimiter}3\n")
    (tmp_path / "job.yml").write_text(propose_job([str(path)], tmp_path / "job.yml").text)
    assert Job.load(tmp_path / "job.yml", environ={}).csv.delimiter == delimiter


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("user_id,city\nperson-1,Köln\n".encode("cp1252"), "cp1252"),
        ("user_id,städte\nperson-1,Bonn\n".encode("cp1252"), "cp1252"),
        (b"user_id,city\nperson-1,K\x9d\xf6ln\n", "iso8859-1"),
        ("user_id,city\nperson-1,Köln\n".encode(), "utf-8"),
        ("user_id,city\nperson-1,Köln\nperson-2,".encode() + b"\xf6\n", "utf-8"),
    ],
)
def test_an_old_encoding_is_recognised(tmp_path: Path, content: bytes, encoding: str) -> None:
    (tmp_path / "users.csv").write_bytes(content)
    proposal = propose_job([str(tmp_path / "users.csv")], tmp_path / "job.yml")
    (tmp_path / "job.yml").write_text(proposal.text, encoding="utf-8")
    job = Job.load(tmp_path / "job.yml", environ={})
    assert job.csv.encoding == encoding
    source = open_source(job.source, csv=job.csv, folder=job.folder)
    assert rejects_of(job, source) == proposal.rejects


def test_unreadable_rows_are_announced(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user_id,plan\nperson-1,pro\nperson-2\nperson-3,a,b\n")
    proposal = propose_job([str(tmp_path / "users.csv")], None)
    assert proposal.rejects == {"ragged": 2}
    assert any("2 rows can't be read" in note and "the first is row 2" in note for note in proposal.notes)
    assert "2 rows can't be read" in " ".join(proposal.text.replace("#", "").split())


def test_rows_from_memory_leave_the_source_to_the_user() -> None:
    source = open_source([pa.table({"user_id": ["person-1"], "plan": ["pro"]})])
    proposal = proposed_for(source, [], "My users!")
    job = job_of(proposal, source)
    assert (job.name, job.source) == ("My-users", ())


def test_several_row_groups_and_files_are_read_to_the_end(tmp_path: Path) -> None:
    for part in range(2):
        table = pa.table({"user_id": [f"{part}-{number}" for number in range(3000)], "n": [str(part)] * 3000})
        pq.write_table(table, tmp_path / f"part-{part}.parquet", row_group_size=500)
    proposal = propose_job([str(tmp_path)], None)
    assert "6,000 rows" in proposal.notes[0]
    assert "2 different" in proposal.text
    assert "part-" in proposal.text


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real exports are not there")
@pytest.mark.parametrize(
    ("name", "rejects"), [("cdnow_customers.csv", {}), ("userdata.parquet", {"missing_id": 16})]
)
def test_real_exports_run_as_proposed(name: str, rejects: dict[str, int], tmp_path: Path) -> None:
    path = os.path.relpath(REAL_DATA / name)
    proposal = propose_job([path], tmp_path / "job.yml")
    (tmp_path / "job.yml").write_text(proposal.text, encoding="utf-8")
    job = Job.load(tmp_path / "job.yml", environ={})
    source = open_source(job.source, csv=job.csv, folder=job.folder)
    assert rejects_of(job, source) == proposal.rejects == rejects


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def proposal_of(*locations: str) -> tuple[Proposal, Job]:
    proposal = propose_job(locations, Path("job.yml"))
    Path("job.yml").write_text(proposal.text)
    return proposal, Job.load(Path("job.yml"), environ={})


def sent(job: Job) -> list[str]:
    return list(preview_rows(job, open_source(job.source, csv=job.csv), count=100))


def rejects(job: Job) -> dict[str, int]:
    source = open_source(job.source, csv=job.csv)
    return dict(plan_job(job, source, settings=Settings()).rejects_by_code)


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
    assert len(sent(Job.load(Path("job.yml"), environ={}))) == 2


def test_it_says_what_a_folder_leaves_out() -> None:
    Path("in").mkdir()
    Path("in/users.csv").write_text("user_id,plan\nuser-1,a\n")
    Path("in/users.csv.xz").write_text("x")
    proposal, _ = proposal_of("in")
    assert any(".xz (1)" in note for note in proposal.notes)
    assert [batch.source for batch in open_source(["in"]).read(RowRange(0))] == ["in/users.csv"]
