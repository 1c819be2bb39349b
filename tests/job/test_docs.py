from __future__ import annotations

import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from etl.amplitude.requests import FIELDS, OPERATORS, TIME_FIELD
from etl.job.column_spec import STEP_WORDS
from etl.job.loading import read_document
from etl.job.scalars import Data, resolved
from etl.job.spec import job_schema, parse_job
from tests.examples import each_row
from tests.job.job_texts import keys

PAGE = (Path(__file__).parents[2] / "docs" / "job-file.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ENVIRON = {"EXPORT_FOLDER": "exports"}


def whole(block: str) -> str:
    """An excerpt put where it belongs: at the top level, or else into the identification."""
    given = read_document(block).data.keys()
    if "identification" in given:
        return block
    if given <= keys():
        return f"{block}identification: {{user_id: id}}\n"
    assert given <= keys("Identification"), given
    indented = "".join(f"  {line}\n" for line in block.splitlines())
    return f"identification:\n  user_id: id\n{indented}"


@each_row("block", BLOCKS)
def test_every_example_is_a_job(block: str) -> None:
    assert parse_job(whole(block), name="job.yml", folder=Path(), environ=ENVIRON).identification.fields


@each_row("block", BLOCKS)
def test_every_example_passes_the_schema(block: str) -> None:
    data: Data = resolved(read_document(whole(block)).data)
    Draft202012Validator(job_schema()).validate(data)


def test_there_are_examples() -> None:
    assert len(BLOCKS) > 10


def test_every_key_is_in_the_page() -> None:
    known = {*keys(), *FIELDS, TIME_FIELD, *OPERATORS, *keys("ColumnSpec"), *STEP_WORDS}
    assert {key for key in known if f"`{key}`" not in PAGE} == set()
    assert {key for key in keys("StepArgument") if f"`{{{key}: " not in PAGE} == set()


def test_the_messages_in_the_page_are_what_is_told() -> None:
    for message in re.findall(r"^job\.yml:\d+: (.*)$", PAGE, re.MULTILINE):
        text = "identification: {user_id: {column: a, type: numbr}, user_propertys: {}}"
        with pytest.raises(Exception, match=re.escape(message)):
            parse_job(text, name="job.yml", folder=Path())
