"""How identifications are written, as the way they go wants them: in a form, or as events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.encoder.form import form_escape
from etl.encoder.insert_ids import as_events
from etl.encoder.lines import Lines, write_lines
from etl.json_lines import Splice


class Encoding(Protocol):
    """Writes identifications as lines; each line depends on its own row alone.

    `splice` is applied to the JSON lines first.
    """

    @property
    def splice(self) -> Splice | None:
        """What makes JSON lines of marked strings what they stand for."""

    def write(self, identifications: pa.RecordBatch, file: int, numbers: NDArray[np.int64]) -> Lines:
        """Write k identifications of file number `file`; `numbers` (shape (k,)) are the rows they end at."""


@dataclass(frozen=True, slots=True)
class FormEncoding:
    """JSON as the field of a urlencoded form. `splice` is applied to the JSON lines first."""

    splice: Splice | None = None

    def write(self, identifications: pa.RecordBatch, file: int, numbers: NDArray[np.int64]) -> Lines:
        """Write identifications; where they come from doesn't show."""
        splices = [self.splice] if self.splice else []
        return write_lines(identifications, *splices, form_escape)


@dataclass(frozen=True, slots=True)
class EventEncoding:
    """Plain JSON of `$identify` events of the run `run_id` (32 hex digits)."""

    run_id: str
    splice: Splice | None = None

    def write(self, identifications: pa.RecordBatch, file: int, numbers: NDArray[np.int64]) -> Lines:
        """Write events, each with an insert_id."""
        splices = [self.splice] if self.splice else []
        return as_events(write_lines(identifications, *splices), self.run_id, file, numbers)
