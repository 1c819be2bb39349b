"""Identifications without the rows and the values that aren't sent. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.leaves import assemble, leaves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl.leaves import Path

    Mask = NDArray[np.bool_]


def remains(
    identifications: pa.RecordBatch,
    rows: NDArray[np.int64],
    keeps: Sequence[tuple[tuple[Path, ...], Mask]],
) -> pa.RecordBatch:
    """The m `rows` of the identifications, of the same type.

    `keeps` says of paths in which of the m rows their values stay (shape (m,)); elsewhere they become null.
    """
    if len(rows) < identifications.num_rows:
        identifications = identifications.take(pa.array(rows))
    if all(keep.all() for _, keep in keeps):
        return identifications
    merged = dict(leaves(identifications))
    everything = np.arange(len(rows))
    for paths, keep in keeps:
        chosen = None if keep.all() else pa.array(everything, mask=~keep)
        for path in paths:
            if chosen is not None and path in merged:
                merged[path] = merged[path].take(chosen)
    arrays = [assemble(field, (field.name,), merged) for field in identifications.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=identifications.schema)
