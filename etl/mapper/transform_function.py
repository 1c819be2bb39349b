"""The job's own transform: a function on DataFrames, whose rows keep their places in the source.

A frame is the readable rows among `_FRAME_ROWS` rows of a file, counted from its first. What a function makes
of a row may depend on the frame. So a resumed run gives it the whole frame again, and drops committed rows.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa

from ..errors import TransformError, UsageError
from ..model import Batch
from ..tally import RowRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from ..model import Mapped

Transform: TypeAlias = "Callable[[pd.DataFrame], pd.DataFrame]"

_FRAME_ROWS: Final = 8192


def load_transform(reference: str, folder: Path) -> Transform:
    """Import `package.module:function`, looking in `folder` first, which stays on the search path.

    Raises UsageError where it can't be imported or is not a function.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        hint = "name a module and a function in it, with a colon between"
        raise UsageError(f"transform {reference!r} isn't of the form package.module:function", hint=hint)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        function = getattr(importlib.import_module(module_name), name, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() too
        message = f"transform {reference!r} can't be imported: {_describe(error)}"
        raise UsageError(message, hint=f"the module is looked for in {folder} first") from error
    if not callable(function):
        hint = f"define `def {name}(frame)` in that module; it takes and returns a pandas DataFrame"
        raise UsageError(f"module {module_name} has no function {name}", hint=hint)
    transform: Transform = function
    return transform


def apply_transform(transform: Transform, batch: Batch) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    """The transformed rows, shape (m,), and the position in `batch.rows` that each was made of, ascending.

    Raises TransformError where the function fails, or returns anything but some of the rows it was given.
    """
    import pandas as pd  # imported for jobs with a transform only: it takes half a second

    frame = batch.rows.to_pandas(types_mapper=pd.ArrowDtype)
    frame.index = pd.Index(batch.numbers, name="row")
    try:
        result = transform(frame)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() too: it would end the run without a message
        raise _failure(transform, batch, f"failed: {_describe(error)}") from error
    if not isinstance(result, pd.DataFrame):
        raise _failure(transform, batch, f"returned {type(result).__name__}, not a DataFrame")
    labels = result.index.tolist()
    known = set(batch.numbers.tolist())
    if strange := [label for label in labels if label not in known]:
        what = f"returned a row with the index {strange[0]!r}, which it wasn't given"
        raise _failure(transform, batch, what)
    if len(set(labels)) < len(labels):
        raise _failure(transform, batch, "returned a row twice")
    positions = np.searchsorted(batch.numbers, np.array(labels, dtype=np.int64)).astype(np.int64)
    order = np.argsort(positions, kind="stable")
    try:
        table = pa.Table.from_pandas(result.iloc[order], preserve_index=False)
        table.validate(full=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        what = f"returned columns of mixed types, or of bad text: {error}"
        raise _failure(transform, batch, what) from error
    # Nones alone have no type; text is the likeliest of other batches.
    arrays = [column.combine_chunks() for column in table.columns]
    typed = [array.cast(pa.string()) if pa.types.is_null(array.type) else array for array in arrays]
    names = [str(name) for name in table.column_names]
    return pa.RecordBatch.from_arrays(typed, names=names), positions[order]


def _describe(error: BaseException) -> str:
    """Type and message of an error from the job's code; the type alone if its message can't be had."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - anything
        return type(error).__name__


def _failure(transform: Transform, batch: Batch, what: str) -> TransformError:
    name = f"{getattr(transform, '__module__', '?')}:{getattr(transform, '__qualname__', repr(transform))}"
    place = f"{batch.source}, rows {batch.first} to {batch.stop - 1}"
    hint = (
        "it must return the DataFrame it is given, with columns changed or rows left out, and the index kept"
    )
    return TransformError(f"the job's transform {name} {what} ({place})", hint=hint)


def framed(row_range: RowRange, size: int = _FRAME_ROWS) -> RowRange:
    """The range of all frames that have rows of the range."""
    stop = None if row_range.stop is None else _frame_start(row_range.stop + size - 1, size)
    return RowRange(row_range.file, _frame_start(row_range.first, size), stop)


def frames(batches: Iterable[Batch], size: int = _FRAME_ROWS) -> Iterator[Batch]:
    """Split or join consecutive batches of a file into frames; the first batch begins a frame."""
    parts: list[Batch] = []
    for batch in batches:
        at = batch.first
        while at < batch.stop:
            end = min(_frame_start(at, size) + size, batch.stop)
            parts.append(batch.between(at, end))
            if end == _frame_start(end, size):
                yield join_batches(parts)
                parts = []
            at = end
    if parts:
        yield join_batches(parts)


def within(mapped: Mapped, row_range: RowRange) -> Mapped:
    """The rows of a mapped frame that are in the range."""
    batch = mapped.batch
    stop = batch.stop if row_range.stop is None else min(row_range.stop, batch.stop)
    return mapped.between(max(row_range.first, batch.first), stop)


def _frame_start(row: int, size: int) -> int:
    """The first row of the frame that a row is in."""
    return (row - 1) // size * size + 1


def join_batches(parts: list[Batch]) -> Batch:
    """Join consecutive batches of a file, with the same columns, to one."""
    if len(parts) == 1:
        return parts[0]
    runs = [part.runs for part in parts if part.runs is not None]
    originals = [part.originals for part in parts if part.originals is not None]
    return replace(
        parts[0],
        stop=parts[-1].stop,
        numbers=np.concatenate([part.numbers for part in parts]),
        rows=pa.concat_batches([part.rows for part in parts]),
        rejects=tuple(reject for part in parts for reject in part.rejects),
        runs=np.concatenate(runs) if runs else None,
        originals=pa.concat_arrays(originals) if originals else None,
    )
