"""Short ways to map a few rows and to see what would be sent."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from arro3.io import write_ndjson

from etl.arrow.json_text import splice_json
from etl.job.column_spec import ColumnSpec
from etl.job.identification_spec import Identification
from etl.mapper import Mapper
from etl.model import Batch, Mapped

USER = {"user_id": ColumnSpec(column="u")}


def batch_of(columns: Mapping[str, pa.Array], *, text: bool = False, first: int = 1) -> Batch:
    """A batch of a file's rows from number `first` on."""
    rows = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    stop = first + rows.num_rows
    return Batch("f.csv", 0, first, stop, np.arange(first, stop, dtype=np.int64), rows, text=text)


def with_users(values: pa.Array, *, text: bool = False) -> Batch:
    """A batch of a good id `u` and a column `v`."""
    ids = pa.array([f"user-{row}" for row in range(len(values))])
    return batch_of({"u": ids, "v": values}, text=text)


def sent(mapped: Mapped) -> list[dict[str, Any]]:
    """The identifications as the server would read them."""
    stream = io.BytesIO()
    write_ndjson(mapped.identifications, stream)
    return [orjson.loads(line) for line in splice_json(stream.getvalue()).splitlines()]


def setting(spec: ColumnSpec, operator: str = "$set") -> Identification:
    """An identification of column `u` as the user and one property `p`."""
    return Identification(USER, operators={operator: {"p": spec}})


def outcomes(
    values: Sequence[str | None] | pa.Array,
    /,
    *,
    text: bool | None = None,
    operator: str = "$set",
    **spec: Any,
) -> list[Any]:
    """For each value what is sent of it; None where nothing is, a reject's code in angle brackets."""
    column = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    text = not isinstance(values, pa.Array) if text is None else text
    mapped = Mapper(setting(ColumnSpec(column="v", **spec), operator)).map(with_users(column, text=text))
    found: list[Any] = [None] * len(column)
    for place, identification in zip(mapped.kept.tolist(), sent(mapped), strict=True):
        found[place] = identification["user_properties"][operator]["p"]
    for reject in mapped.rejects:
        found[reject.row - 1] = f"<{reject.code}>"
    return found


def reasons(mapped: Mapped) -> dict[int, str]:
    """Why each rejected row was turned away."""
    return {reject.row: reject.reason for reject in mapped.rejects}
