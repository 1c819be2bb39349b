"""The sample files are what their generator writes, and propsync does with each what their README says."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from etl.errors import EtlError, ExitCode
from etl.init import propose_job
from etl.job.problems import check_columns, check_repeated
from etl.job.spec import Job
from etl.mapper import Mapper
from etl.reader import open_source
from etl.tally import RowRange
from sample_data.generate import write
from tests.examples import each_row

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data"
FAULTY = SAMPLES / "faulty"
MADE = (
    "users.csv",
    "users.parquet",
    "kunden.csv",
    *(f"faulty/{path.name}" for path in sorted(FAULTY.iterdir()) if path.suffix != ".yml"),
)
ROW = re.compile(r"^\| `([\w.-]+)` \| .* \| ((?:rejects|stops|reads)\b.*) \|$", re.MULTILINE)
DOCUMENTED = dict(ROW.findall((SAMPLES / "README.md").read_text(encoding="utf-8")))


def outcome(job_file: Path, source: Path) -> tuple[int, list[tuple[int, str]]]:
    """How many rows there are, and row and code of each reject."""
    job = Job.load(job_file, environ={})
    opened = open_source([source], csv=job.csv)
    if opened.files[0].size:
        check_repeated(job, source.name, opened.repeated(0))
        check_columns(job, opened.schema().names)
    mapped = [Mapper(job.identification).map(batch) for batch in opened.read(RowRange(0))]
    rows = sum(one.batch.stop - one.batch.first for one in mapped)
    return rows, [(reject.row, reject.code) for one in mapped for reject in one.rejects]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write(folder)
    return folder


@each_row("name", MADE)
def test_the_generator_writes_the_committed_files(written: Path, name: str) -> None:
    if name == "users.parquet":  # its bytes depend on the writer's version
        assert pq.read_table(written / name).equals(pq.read_table(SAMPLES / name))
        assert pq.read_metadata(SAMPLES / name).num_row_groups == 4
    elif name == "faulty/truncated.parquet":
        assert (SAMPLES / name).read_bytes().startswith(b"PAR1")
    else:
        assert (written / name).read_bytes() == (SAMPLES / name).read_bytes()


def test_every_file_is_made_and_documented(written: Path) -> None:
    faulty = {path.name for path in FAULTY.iterdir() if path.suffix != ".yml"}
    assert {path.name for path in (written / "faulty").iterdir()} == faulty == set(DOCUMENTED)


def test_the_samples_stay_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 400_000


@each_row("name", sorted(DOCUMENTED))
def test_each_faulty_file_ends_as_the_readme_says(name: str) -> None:
    said = DOCUMENTED[name]
    if said.startswith("stops"):
        with pytest.raises(EtlError, match=said.split('"')[1]) as caught:
            outcome(FAULTY / "faulty.yml", FAULTY / name)
        assert caught.value.exit_code == (2 if "exit code 2" in said else ExitCode.SOURCE)
        assert caught.value.hint
        return
    rows, rejects = outcome(FAULTY / "faulty.yml", FAULTY / name)
    assert rejects == [(int(row), code) for row, code in re.findall(r"row (\d+) \(`(\w+)`\)", said)]
    assert rows == int(re.findall(r"(?:of|reads) (\d+)", said)[-1])


@pytest.mark.parametrize(("name", "rows"), [("csv", 500), ("parquet", 2000)])
def test_every_row_of_the_good_files_can_be_sent(name: str, rows: int) -> None:
    assert outcome(SAMPLES / f"users-{name}.yml", SAMPLES / f"users.{name}") == (rows, [])


@pytest.mark.parametrize("name", ["users.csv", "users.parquet", "faulty/short-ids.csv", "faulty/latin-1.csv"])
def test_what_init_proposes_for_them_rejects_nothing(name: str, tmp_path: Path) -> None:
    proposal = propose_job([str(SAMPLES / name)], tmp_path / "job.yml")
    (tmp_path / "job.yml").write_text(proposal.text, encoding="utf-8")
    job = Job.load(tmp_path / "job.yml", environ={})
    source = open_source(job.source, csv=job.csv, folder=job.folder)
    mapper = Mapper(job.identification)
    assert [reject for batch in source.read(RowRange(0)) for reject in mapper.map(batch).rejects] == []
    assert proposal.rejects == {}
