"""Values of typed sources keep their types, and no kind of Arrow array brings the mapper down."""

from __future__ import annotations

from typing import Any, get_args

import pyarrow as pa
import pytest

from etl.amplitude import STRING_FIELDS
from etl.job.spec import ColumnSpec, Identification, ValueType
from etl.mapper import Mapper
from tests.mapper.mapping import USER, outcomes, sent, with_users
from tests.mapper.zoo import ZOO

SPECS = {str(type_): ColumnSpec(column="v", type=type_) for type_ in (None, *get_args(ValueType))}
EVERYWHERE = [
    Identification(
        {**USER, **dict(zip(STRING_FIELDS, SPECS.values(), strict=False))},
        groups=SPECS,
        operators={"$set": SPECS, "$append": SPECS},
    ),
    *(Identification({"device_id": spec}, unset=("x",)) for spec in SPECS.values()),
]


@pytest.mark.parametrize("kind", ZOO)
def test_values_keep_their_type(kind: str) -> None:
    array, expected = ZOO[kind]
    assert outcomes(array) == expected


@pytest.mark.parametrize("kind", ZOO)
def test_a_slice_is_mapped_as_the_whole(kind: str) -> None:
    array, expected = ZOO[kind]
    if not pa.types.is_union(array.type):
        array, expected = pa.concat_arrays([array, array]), expected * 2
    assert outcomes(array.slice(1)) == expected[1:]


@pytest.mark.parametrize("kind", ZOO)
def test_no_kind_of_array_fails_anywhere_and_the_type_never_depends_on_the_values(kind: str) -> None:
    whole = with_users(ZOO[kind][0])
    nothing = with_users(ZOO[kind][0].slice(0, 0))
    for identification in EVERYWHERE:
        mapped = Mapper(identification).map(whole)
        rejected = [reject.row for reject in mapped.rejects]
        assert len(mapped.kept) == len(sent(mapped))
        assert len({*(mapped.kept + 1).tolist(), *rejected}) == len(mapped.kept) + len(rejected)
        assert Mapper(identification).map(nothing).identifications.schema == mapped.identifications.schema


def test_numbers_arrive_digit_by_digit() -> None:
    found: list[Any] = outcomes(pa.array([2**53 + 1, -(2**63)]))
    assert found == [2**53 + 1, -(2**63)]
