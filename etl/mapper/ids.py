"""Ids as text, and what Amplitude asks of them, told before sending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import MAX_ID_LENGTH, MIN_ID_LENGTH, REFUSED_IDS
from etl.mapper.cells import Cells, Fault, as_mask, faults_of
from etl.mapper.mangled import AROUND, LARGE_FLOAT, NESTED, mangled
from etl.mapper.native import as_text
from etl.mapper.numbers import finite
from etl.mapper.steps import empty_to_null, transform

if TYPE_CHECKING:
    from etl.job.spec import ColumnSpec

# What follows one of these steps has nothing of a number any more.
_HIDING: Final = ("prefix", "sha256")
# Whole numbers up to here are all there; beyond, a float stands for several of them.
_EXACT: Final = {"float": 2**24, "double": 2**53}


def read_ids(values: pa.Array, spec: ColumnSpec) -> Cells:
    """Plain values as trimmed ids after the spec's steps, with those that were mangled marked as such.

    They are judged after the steps that may set them right, and before the first that would hide it.
    """
    hiding = (place for place, step in enumerate(spec.transform) if step.verb in _HIDING)
    border = next(hiding, len(spec.transform))
    cells = id_texts(values, keep=spec.mangled == "keep").then(trimmed)
    if border:
        cells = cells.then(lambda texts: transform(texts, spec.transform[:border], blank_is_null=True))
        cells = cells.then(trimmed)
    if spec.mangled == "reject":
        told = [fault.rows for fault in cells.faults if fault.code == "mangled_id"]
        cells = cells.then(lambda texts: Cells(texts, mangled(texts, told)))
    return cells.then(lambda texts: transform(texts, spec.transform[border:], blank_is_null=True))


def id_texts(values: pa.Array, *, keep: bool) -> Cells:
    """Plain values as text; whole numbers of any type without a fraction."""
    kind = values.type
    if pa.types.is_floating(kind):
        return finite(values).then(lambda numbers: _floats(numbers, keep=keep))
    if pa.types.is_decimal(kind):
        digits = as_text(values)
        return digits.then(lambda texts: Cells(pc.replace_substring_regex(texts, r"\.0*$", "")))
    faults = (
        () if keep or not pa.types.is_nested(kind) else faults_of("mangled_id", values.is_valid(), NESTED)
    )
    cells = as_text(values)
    return Cells(cells.values, faults + cells.faults)


def trimmed(texts: pa.Array) -> Cells:
    """Ids without blanks and invisible characters around them; an empty one is null."""
    return empty_to_null(pc.utf8_trim(texts, characters=AROUND))


def check_ids(name: str, ids: pa.Array) -> Cells:
    """Ids as they are, with what is wrong with them; a null is not a fault here."""
    lengths = pc.utf8_length(ids)
    refused = pc.is_in(pc.utf8_lower(ids), value_set=pa.array(sorted(REFUSED_IDS)))
    checks = (
        ("refused_id", refused, f"Amplitude refuses {{}} as a {name}: it stands for no user"),
        (
            "short_id",
            pc.less(lengths, MIN_ID_LENGTH),
            f"{name} {{}} has fewer than {MIN_ID_LENGTH} characters",
        ),
        (
            "long_id",
            pc.greater(lengths, MAX_ID_LENGTH),
            f"{name} {{}} has more than {MAX_ID_LENGTH} characters",
        ),
    )
    faults = [Fault(code, as_mask(marks), says, ids) for code, marks, says in checks]
    return Cells(ids, tuple(fault for fault in faults if fault.rows.any()))


def _floats(numbers: pa.Array, *, keep: bool) -> Cells:
    texts = as_text(numbers)
    large = np.abs(numbers.to_numpy(zero_copy_only=False)) > _EXACT[str(numbers.type)]
    return texts if keep else Cells(texts.values, texts.faults + faults_of("mangled_id", large, LARGE_FLOAT))
