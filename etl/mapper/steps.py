"""The steps of a column's transform, in the job's order, each on a whole column of text."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from etl.mapper.byte_texts import hex_text, uuid_text
from etl.mapper.cells import Cells, blank_out
from etl.mapper.formats import parse_formats
from etl.mapper.native import as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from etl.job.spec import Step


def transform(
    values: pa.Array, steps: tuple[Step, ...], *, blank_is_null: bool, zone: str | None = None
) -> Cells:
    """Plain values after all steps. `blank_is_null`: a text that a step has emptied is null for the next.

    `zone` is that of times that don't say theirs.
    """
    cells = Cells(values)
    for step in steps:
        cells = cells.then(as_text)
        if step.verb == "date_format":
            formats = step.formats or (step.argument,)
            cells = cells.then(lambda texts, formats=formats: parse_formats(texts, formats, zone))  # type: ignore[misc]
        else:
            cells = cells.then(lambda texts, step=step: _VERBS[step.verb](texts, step))  # type: ignore[misc]
        if blank_is_null:
            cells = cells.then(empty_to_null)
    return cells


def empty_to_null(values: pa.Array) -> Cells:
    """Empty strings as null; other types as they are."""
    if not pa.types.is_string(values.type):
        return Cells(values)
    empty = pc.equal(pc.binary_length(values), 0)
    return Cells(blank_out(values, empty) if pc.any(empty).as_py() else values)


def words_to_null(values: pa.Array, words: tuple[str, ...]) -> Cells:
    """Texts that mean null as null, compared without the blanks around them; other types as they are."""
    if not pa.types.is_string(values.type):
        return Cells(values)
    meant = pc.is_in(pc.utf8_trim_whitespace(values), value_set=pa.array(words, pa.string()))
    return Cells(blank_out(values, meant) if pc.any(meant).as_py() else values)


def _replace(texts: pa.Array, step: Step) -> Cells:
    for old, new in step.pairs:
        if old:  # Arrow would look for an empty text for ever
            texts = pc.replace_substring(texts, old, new)
    return Cells(texts)


def _sha256(texts: pa.Array) -> Cells:
    """Hex digests of the UTF-8 bytes; each distinct text is hashed once."""
    encoded = texts.dictionary_encode()
    distinct = encoded.dictionary.cast(pa.binary()).to_pylist()
    digests = pa.array([hashlib.sha256(text).hexdigest() for text in distinct], pa.string())
    return Cells(digests.take(encoded.indices))


_VERBS: Final[Mapping[str, Callable[[pa.Array, Step], Cells]]] = {
    "trim": lambda texts, _: Cells(pc.utf8_trim_whitespace(texts)),
    "lower": lambda texts, _: Cells(pc.utf8_lower(texts)),
    "upper": lambda texts, _: Cells(pc.utf8_upper(texts)),
    "hex": lambda texts, _: hex_text(texts),
    "uuid": lambda texts, _: uuid_text(texts),
    "sha256": lambda texts, _: _sha256(texts),
    "prefix": lambda texts, step: Cells(pc.binary_join_element_wise(step.argument, texts, "")),
    "replace": _replace,
}
