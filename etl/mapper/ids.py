"""What Amplitude asks of a user_id and a device_id, told before sending."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import MAX_ID_LENGTH, MIN_ID_LENGTH, REFUSED_IDS
from etl.mapper.cells import Cells, Fault, as_mask
from etl.mapper.steps import empty_to_null


def trimmed(texts: pa.Array) -> Cells:
    """Ids without blanks around them; an empty one is null."""
    return empty_to_null(pc.utf8_trim_whitespace(texts))


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
