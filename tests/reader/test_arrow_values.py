"""Every Arrow type in every way to store it: what arrives is what the values say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl import Job
from etl.encoder import Limits
from etl.errors import SourceError
from etl.job.column_spec import ColumnSpec
from etl.mapper import Mapper
from etl.pipeline.row_pipeline import RowPipeline
from etl.reader import file_reader, open_source
from etl.tally import RowRange
from tests.examples import examples
from tests.mapper.arrow_samples import ARROW_SAMPLES
from tests.mapper.mapping import sent, setting

Encode = Callable[[pa.Array], pa.Array]


def indices(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return pa.array(range(len(array)), kind)


def dictionary(kind: pa.DataType) -> Encode:
    return lambda array: pa.DictionaryArray.from_arrays(indices(array, kind), array)


def runs(kind: pa.DataType) -> Encode:
    return lambda array: pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(array) + 1), kind), array)


def viewed(array: pa.Array) -> pa.Array:
    views = {
        pa.string(): pa.string_view(),
        pa.large_string(): pa.string_view(),
        pa.binary(): pa.binary_view(),
    }
    return array.cast(views[array.type]) if array.type in views else array


def sliced(array: pa.Array) -> pa.Array:
    return pa.concat_arrays([array, array]).slice(len(array))


# Ways to store the same values; not every type can be stored in each.
STORED: dict[str, Encode] = {
    "plain": lambda array: array,
    "sliced": sliced,
    "views": viewed,
    "dictionary of int32": dictionary(pa.int32()),
    "dictionary of uint8": dictionary(pa.uint8()),
    "dictionary of uint64": dictionary(pa.uint64()),
    "dictionary of views": lambda array: dictionary(pa.uint32())(viewed(array)),
    "dictionary, sliced": lambda array: sliced(dictionary(pa.int8())(array)),
    "runs of int16": runs(pa.int16()),
    "runs of views": lambda array: runs(pa.int64())(viewed(array)),
    "runs, sliced": lambda array: runs(pa.int32())(pa.concat_arrays([array, array])).slice(len(array)),
    "dictionary of runs": lambda array: dictionary(pa.int32())(runs(pa.int32())(array)),
    "runs of a dictionary": lambda array: runs(pa.int32())(dictionary(pa.int32())(array)),
    "extension": lambda array: pa.ExtensionArray.from_storage(pa.opaque(array.type, "thing", "us"), array),
    "dictionary of an extension": lambda array: dictionary(pa.int32())(STORED["extension"](array)),
}
# Types within types, and what a value becomes within them.
WITHIN: dict[str, tuple[Encode, Callable[[Any], Any]]] = {
    "itself": (lambda array: array, lambda value: value),
    "struct": (
        lambda array: pa.StructArray.from_arrays([array], names=["x"]),
        lambda value: None if value is None else {"x": value},
    ),
    "map": (
        lambda array: pa.MapArray.from_arrays(
            pa.array(range(len(array) + 1), pa.int32()), pa.array(["k"] * len(array)), array
        ),
        lambda value: {} if value is None else {"k": value},
    ),
    "list": (
        lambda array: pa.ListArray.from_arrays(pa.array(range(len(array) + 1), pa.int32()), array),
        lambda value: [] if value is None else [value],
    ),
    "list view": (
        lambda array: pa.LargeListViewArray.from_arrays(
            indices(array, pa.int64()), pa.array([1] * len(array), pa.int64()), array
        ),
        lambda value: [] if value is None else [value],
    ),
}  # fmt: skip


def outcomes(values: pa.Array) -> list[Any]:
    """What a job sends of a column; a reject's code in angle brackets."""
    ids = pa.array([f"user-{row}" for row in range(len(values))])
    found: list[Any] = [None] * len(values)
    mapper = Mapper(setting(ColumnSpec(column="v")))
    for batch in open_source([pa.Table.from_arrays([ids, values], names=["u", "v"])]).read(RowRange(0)):
        mapped = mapper.map(batch)
        for place, identification in zip(batch.numbers[mapped.kept].tolist(), sent(mapped), strict=True):
            found[place - 1] = identification["user_properties"]["$set"]["p"]
        for reject in mapped.rejects:
            found[reject.row - 1] = f"<{reject.code}>"
    return found


def encoded(array: pa.Array, stored: str) -> pa.Array | None:
    """None where Arrow has no such column; validating an extension of an extension ends the process."""
    if "extension" in stored and isinstance(array.type, pa.BaseExtensionType):
        return None
    try:
        return STORED[stored](array)
    except (pa.ArrowException, TypeError):
        return None


USUAL = ("plain", "views", "dictionary of uint8", "dictionary of views", "runs, sliced")
BY_SOAK = [pytest.param(name, marks=pytest.mark.soak) for name in STORED if name not in USUAL]


@pytest.mark.parametrize("stored", [*USUAL, *BY_SOAK])
def test_a_value_arrives_however_it_is_stored(stored: str) -> None:
    wrong = {}
    for kind, (array, expected) in ARROW_SAMPLES.items():
        column = encoded(array, stored)
        if column is None:
            continue
        found = [None if value == "<bad_encoding>" else value for value in outcomes(column)]
        rights = [expected, [None if value == "<bad_text>" else value for value in expected]]
        if kind == "string that is none":  # of such a dictionary no row can be trusted
            rights = [[None, "z"], [None, None]]
        if found not in rights:
            wrong[kind] = (found, expected)
    assert not wrong


@example(kind="bool", stored="plain", outer="runs of a dictionary", within="struct")
@settings(max_examples=examples(150), deadline=None)
@given(
    kind=st.sampled_from(list(ARROW_SAMPLES)),
    stored=st.sampled_from(list(STORED)),
    outer=st.sampled_from(list(STORED)),
    within=st.sampled_from(list(WITHIN)),
)
def test_what_is_stored_in_others_arrives_as_it_does_by_itself(
    kind: str, stored: str, outer: str, within: str
) -> None:
    array, expected = ARROW_SAMPLES[kind]
    column = encoded(array, stored)
    wrap, wrapped = WITHIN[within]
    try:
        column = None if column is None else encoded(wrap(column), outer)
    except (pa.ArrowException, TypeError):
        return
    if column is None:
        return
    for one, value in zip(outcomes(column), expected, strict=True):
        if isinstance(value, str) and value.startswith("<"):
            assert str(one).startswith("<")
        elif not (pa.types.is_nested(array.type) or kind in {"tensor", "string that is none"}):
            assert one == wrapped(value)  # lists in lists and empty objects have rules of their own


def bodies(table: pa.Table) -> list[bytes]:
    job = Job.of({"identification": {"user_id": "u", "user_properties": {"p": "v"}}, "changes": "off"})
    production = RowPipeline(job, open_source([table], batch_rows=2), limits=Limits(identifications=4))
    chunks = [chunk for some in production.chunks([RowRange(0)]) for chunk in some]
    return [b"".join(map(bytes, chunk.body)) for chunk in chunks]


@pytest.mark.parametrize("stored", [name for name in STORED if name != "plain"])
def test_the_same_bytes_are_sent_of_texts_however_they_are_stored(stored: str) -> None:
    texts = pa.array(["a", None, "b", "", "é", "a"])
    users = pa.array(["user-1", "user-2", "user-1", "user-3", "user-4", "user-5"])
    plain = pa.table({"u": users, "v": texts})
    column, ids = encoded(texts, stored), encoded(users, stored)
    assert column is not None
    assert bodies(pa.Table.from_arrays([ids, column], names=["u", "v"])) == bodies(plain)


def test_a_category_of_views_is_an_id_and_a_property(tmp_path: Any) -> None:
    """As polars hands out Categorical and Enum columns."""
    words = pa.array(["user-1", "user-2"]).cast(pa.string_view())
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.uint32()), words)
    assert outcomes(column) == ["user-1", "user-2", None, "user-1"]


def test_lists_of_categories_of_a_parquet_file(tmp_path: Any) -> None:
    column = pa.array([["a", "b"], [], None]).cast(pa.list_(pa.dictionary(pa.int32(), pa.string())))
    pq.write_table(pa.table({"v": column}), tmp_path / "x.parquet")
    (batch,) = open_source([tmp_path / "x.parquet"]).read(RowRange(0))
    assert batch.rows.column("v").to_pylist() == [["a", "b"], [], None]
    assert batch.rows.schema == open_source([tmp_path / "x.parquet"]).schema()


def test_an_index_beyond_its_dictionary_is_damage() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 7]), pa.array(["a"]), safe=False)
    with pytest.raises(SourceError, match="damaged"):
        outcomes(column)


def test_run_ends_may_be_of_one_long_run() -> None:
    column = pc.run_end_encode(pa.array(["a"] * 100 + ["b"] * 3)).slice(98, 4)
    assert outcomes(column) == ["a", "a", "b", "b"]


def test_what_can_t_be_decoded_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """No type is known that can't; a later Arrow may have one."""

    def refuse(values: pa.Array) -> pa.Array:
        raise pa.ArrowNotImplementedError("no kernel")

    monkeypatch.setattr(file_reader, "plain_array", refuse)
    with pytest.raises(SourceError, match=r"table: column u is of the type string.*no kernel") as caught:
        outcomes(pa.array(["a"]))
    assert "cast the column" in str(caught.value.hint)
