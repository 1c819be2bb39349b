"""Single values as the text that stands for them, which ids, string fields and transforms work on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.json_lines import json_texts
from etl.mapper.cells import Cells
from etl.mapper.dates import check_days, moment_texts, to_seconds
from etl.mapper.numbers import finite


def scalar_texts(values: pa.Array) -> Cells:
    """Plain values as strings: 17.0 as `17`, decimals with all digits, times as Amplitude wants them."""
    kind = values.type
    if pa.types.is_string(kind):
        return Cells(values)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return Cells(values.cast(pa.string()))
    if pa.types.is_floating(kind):
        return finite(values).then(_float_texts)
    if pa.types.is_date(kind):
        return check_days(values).then(lambda days: Cells(days.cast(pa.string())))
    if pa.types.is_timestamp(kind):
        return to_seconds(values).then(lambda moments: Cells(moment_texts(moments)))
    return Cells(json_texts(values))


def _float_texts(values: pa.Array) -> Cells:
    """Whole floats without a point: integers with gaps become floats on their way through pandas."""
    floats = values.to_numpy(zero_copy_only=False)
    integral = (np.abs(floats) <= 2**53) & (floats == np.floor(floats))
    digits = pa.array(np.where(integral, floats, 0).astype(np.int64)).cast(pa.string())
    return Cells(pc.if_else(pa.array(integral), digits, values.cast(pa.string())))
