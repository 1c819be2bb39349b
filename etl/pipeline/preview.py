"""`preview`: identifications as they would be sent, the first ones, one user's, or a sample of all.

Nothing is read in a thread of its own: of a pipe no more is read than is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.json_lines import json_lines
from ..job.spec import Job
from ..model import Mapped
from ..reader import Source
from .job_source import JobSource, rows_of_user


class PreviewedRow(NamedTuple):
    """An identification as JSON text, and the row of the source that it is made of."""

    source: str
    row: int
    json: str


def preview_rows(job: Job, source: Source, *, count: int = 5) -> Iterator[str]:
    """The first `count` identifications, one JSON text each, before rows of one user are merged."""
    return (found.json for found in first_rows(job, source, count=count))


def first_rows(
    job: Job, source: Source, *, count: int | None, user: str | None = None
) -> Iterator[PreviewedRow]:
    """The first `count` identifications, or all; only those of a `user` (or device) if one is named."""
    rows, left = JobSource(job, source), count
    for mapped in map(rows.mapper.map, rows.read_all()):
        own = np.arange(len(mapped.kept))
        if user is not None:
            own = np.flatnonzero(rows_of_user(mapped.identifications, user))
        yield from _previewed(rows, mapped, own[:left])
        left = None if left is None else left - len(own)
        if left is not None and left <= 0:
            return


def sampled_rows(job: Job, source: Source, *, count: int, seed: int = 0) -> Iterator[PreviewedRow]:
    """Identifications of `count` rows, chosen at random among all, in source order; the same for one seed."""
    rows, random = JobSource(job, source), np.random.default_rng(seed)
    lots, kept = np.zeros(0), list[PreviewedRow]()
    for mapped in map(rows.mapper.map, rows.read_all()):
        drawn = random.random(len(mapped.kept))
        most = np.sort(lots)[count - 1] if len(lots) >= count else np.inf
        chosen = np.flatnonzero(drawn < most)
        chosen = np.sort(chosen[np.argsort(drawn[chosen])[:count]])
        lots = np.concatenate([lots, drawn[chosen]])
        kept += _previewed(rows, mapped, chosen)
        best = np.sort(np.argsort(lots)[:count])
        lots, kept = lots[best], [kept[place] for place in best]
    yield from kept


def _previewed(rows: JobSource, mapped: Mapped, chosen: NDArray[np.int64]) -> Iterator[PreviewedRow]:
    """The identifications at these places of a batch."""
    numbers = mapped.batch.numbers[mapped.kept[chosen]].tolist()
    lines = json_lines(mapped.identifications.take(pa.array(chosen)), splice=rows.splice).splitlines()
    for number, line in zip(numbers, lines, strict=True):
        yield PreviewedRow(mapped.batch.source, number, line.decode())
