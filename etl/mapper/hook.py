"""The job's own transform: rows through a function on DataFrames, without losing sight of their places."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from etl.errors import TransformError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from etl.model import Batch


Transform: TypeAlias = "Callable[[pd.DataFrame], pd.DataFrame]"


def load_transform(reference: str, folder: Path) -> Transform:
    """Import `package.module:function`, looking in `folder` first, which stays on the search path.

    Raises UsageError where it can't be imported or is no function.
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
        message = f"transform {reference!r} can't be imported: {_brief(error)}"
        raise UsageError(message, hint=f"the module is looked for in {folder} first") from error
    if not callable(function):
        hint = f"define `def {name}(frame)` in that module; it takes and returns a pandas DataFrame"
        raise UsageError(f"module {module_name} has no function {name}", hint=hint)
    transform: Transform = function
    return transform


def apply(transform: Transform, batch: Batch) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    """The transformed rows, shape (m,), and the position in `batch.rows` that each was made of, ascending.

    Raises TransformError where the function fails, or returns anything but some of the rows it was given.
    """
    import pandas as pd

    frame = batch.rows.to_pandas(types_mapper=pd.ArrowDtype)
    frame.index = pd.Index(batch.numbers, name="row")
    try:
        result = transform(frame)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() too: it would end the run without a word
        raise _failure(transform, batch, f"failed: {_brief(error)}") from error
    if not isinstance(result, pd.DataFrame):
        raise _failure(transform, batch, f"returned {type(result).__name__}, not a DataFrame")
    positions = _positions(transform, batch, result)
    ordered = result.iloc[np.argsort(positions, kind="stable")]
    return _to_arrow(transform, batch, ordered), np.sort(positions)


def _positions(transform: Transform, batch: Batch, result: pd.DataFrame) -> NDArray[np.int64]:
    """Where in the batch each row of the result comes from, by its index."""
    labels = result.index.tolist()
    known = set(batch.numbers.tolist())
    for label in labels:
        if label not in known:
            what = f"returned a row with the index {label!r}, which it wasn't given"
            raise _failure(transform, batch, what)
    if len(set(labels)) < len(labels):
        raise _failure(transform, batch, "returned a row twice")
    return np.searchsorted(batch.numbers, np.array(labels, dtype=np.int64)).astype(np.int64)


def _to_arrow(transform: Transform, batch: Batch, result: pd.DataFrame) -> pa.RecordBatch:
    try:
        table = pa.Table.from_pandas(result, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _failure(transform, batch, f"returned columns of mixed types: {error}") from error
    # Nones alone have no type; text is the likeliest of other batches.
    arrays = [column.combine_chunks() for column in table.columns]
    typed = [array.cast(pa.string()) if pa.types.is_null(array.type) else array for array in arrays]
    return pa.RecordBatch.from_arrays(typed, names=[str(name) for name in table.column_names])


def _brief(error: BaseException) -> str:
    """Kind and message of an error of somebody else's, whose message may itself fail."""
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
