from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from etl.init.job_text import in_quotes, quoted, spec_text
from etl.job.column_spec import ColumnSpec, Step, without_effect
from etl.job.problems import clipped
from etl.job.spec import parse_job
from tests.examples import each_row

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(texts)
def test_any_text_reads_back_as_itself_by_any_yaml_reader(text: str) -> None:
    for written in (quoted(text), in_quotes(text)):
        assert yaml.safe_load(f"k: {written}") == {"k": text}
        assert yaml.safe_load(f"{written}: v") == {text: "v"}
        assert "\n" not in written


@each_row("word", ["yes", "No", "null", "~", "12", "1e3", "", "a: b", "#x", "- a", "*a", ".inf", "a\x85b"])
def test_what_yaml_would_misread_is_quoted(word: str) -> None:
    assert quoted(word).startswith('"')


@pytest.mark.parametrize("word", ["plan", "exports/users.csv", "../users.csv", "/data/users-1.parquet"])
def test_plain_words_stay_bare(word: str) -> None:
    assert quoted(word) == word


@given(st.text())
def test_a_comment_never_leaves_its_line(text: str) -> None:
    assert clipped(text).isprintable()
    assert len(clipped(text)) <= 60


steps = st.one_of(
    st.sampled_from(["trim", "lower", "upper", "sha256"]).map(lambda word: Step(word)),  # type: ignore[arg-type]
    texts.map(lambda text: Step("prefix", text)),
    st.just(Step("date_format", formats=("%d/%m/%Y",))),
    st.just(Step("date_format", formats=("%d/%m/%Y", "%Y-%m-%d"))),
)
words = texts.filter(lambda text: text == text.strip())
specs = st.builds(
    ColumnSpec,
    column=texts,
    transform=st.lists(steps, max_size=3).map(tuple),
    type=st.sampled_from([None, "integer", "date", "json"]),
    too_long=st.sampled_from(["reject", "truncate"]),
    invalid=st.sampled_from(["reject", "skip"]),
    nulls=st.lists(words, max_size=2, unique=True).map(lambda some: tuple(sorted(some))),
)
specs |= st.builds(
    ColumnSpec, column=texts, type=st.just("list"), separator=st.sampled_from([";", "|", '"', "\t"])
)
specs |= st.builds(
    ColumnSpec,
    column=texts,
    type=st.just("number"),
    decimal=st.just(","),
    thousands=st.sampled_from(["", ".", " ", "'"]),
    strip=st.sampled_from(["", "€ ", "R$ "]),
)
specs |= st.builds(ColumnSpec, column=texts, type=st.just("datetime"), unit=st.sampled_from(["s", "ms"]))
specs |= st.builds(
    ColumnSpec,
    column=texts,
    values=st.dictionaries(words, st.sampled_from(["true", "false"]), min_size=1).map(
        lambda some: tuple(sorted(some.items()))
    ),
)


@given(specs.filter(lambda spec: not any(without_effect(spec))))
def test_a_written_spec_is_read_as_the_same_spec(spec: ColumnSpec) -> None:
    text = f"identification:\n  user_id: u\n  user_properties:\n    p: {spec_text(spec)}\n"
    job = parse_job(text, name="j.yml", folder=Path())
    assert job.identification.operators["$set"]["p"] == spec
