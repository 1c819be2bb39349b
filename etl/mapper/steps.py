"""The steps of a column's transform, in the job's order, each on a whole column of text."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from .column_values import ColumnValues, empty_to_null
from .datetimes import parse_formats
from .typed_values import as_text, hex_text, uuid_text

if TYPE_CHECKING:
    from ..job.column_spec import Step


def apply_steps(
    values: pa.Array, steps: tuple[Step, ...], *, blank_is_null: bool, zone: str | None = None
) -> ColumnValues:
    """Plain values after all steps. `blank_is_null`: a text that a step has emptied is null for the next.

    A time without a zone is in `zone`.
    """
    found = ColumnValues(values)
    for step in steps:
        found = found.then(as_text)
        found = found.then(lambda texts, step=step: _apply(step, texts, zone))  # type: ignore[misc]
        if blank_is_null:
            found = found.then(empty_to_null)
    return found


def _apply(step: Step, texts: pa.Array, zone: str | None) -> ColumnValues:
    match step.verb:
        case "date_format":
            return parse_formats(texts, step.formats or (step.argument,), zone)
        case "hex":
            return hex_text(texts)
        case "uuid":
            return uuid_text(texts)
        case "trim":
            texts = pc.utf8_trim_whitespace(texts)
        case "lower":
            texts = pc.utf8_lower(texts)
        case "upper":
            texts = pc.utf8_upper(texts)
        case "prefix":
            texts = pc.binary_join_element_wise(step.argument, texts, "")
        case "replace":
            for old, new in step.pairs:
                if old:  # Arrow would look for an empty text for ever
                    texts = pc.replace_substring(texts, old, new)
        case "sha256":  # each distinct text is hashed once
            encoded = texts.dictionary_encode()
            distinct = encoded.dictionary.cast(pa.binary()).to_pylist()
            digests = pa.array([hashlib.sha256(text).hexdigest() for text in distinct], pa.string())
            texts = digests.take(encoded.indices)
    return ColumnValues(texts)
