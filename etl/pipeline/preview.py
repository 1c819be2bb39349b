"""`preview`: identifications as they would be sent, the first ones, one user's, or a sample of all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..arrow.json_lines import Splice, json_lines
from ..job import Job
from ..reader import Source
from ..subject import Subject
from .job_source import JobSource


class PreviewedRow(NamedTuple):
    """An identification as JSON text, and the row of the source that it is made of."""

    source: str
    row: int
    json: str

    @classmethod
    def each(
        cls, source: str, numbers: NDArray[np.int64], some: pa.RecordBatch, splice: Splice | None
    ) -> Iterator[Self]:
        """Yield identifications with the numbers of their rows."""
        texts = json_lines(some, splice=splice).decode().split("\n") if some.num_rows else []
        for number, text in zip(numbers.tolist(), texts, strict=False):
            yield cls(source, number, text)


def preview_rows(job: Job, source: Source, *, count: int = 5) -> Iterator[str]:
    """The first `count` identifications, one JSON text each, before rows of one user are merged."""
    return (found.json for found in first_rows(job, source, count=count))


def first_rows(
    job: Job, source: Source, *, count: int | None, user: str | None = None
) -> Iterator[PreviewedRow]:
    """The first `count` identifications, or all; only those of a `user` (or device) if one is named."""
    rows, left, subject = JobSource(job, source), count, Subject.of(job.identification.fields)
    for names, numbers, some in _identifications(rows):
        if user is not None:
            ids = (column for _, column in subject.columns(some))
            own = np.any([np.asarray(pc.equal(column, user).fill_null(False)) for column in ids], axis=0)
            numbers, some = numbers[own], some.filter(pa.array(own))
        yield from PreviewedRow.each(names, numbers[:left], some.slice(0, left), rows.splice)
        left = None if left is None else left - some.num_rows
        if left is not None and left <= 0:
            return


def sampled_rows(job: Job, source: Source, *, count: int, seed: int = 0) -> Iterator[PreviewedRow]:
    """Identifications of `count` rows, chosen at random among all, in source order; the same for one seed."""
    rows, random = JobSource(job, source), np.random.default_rng(seed)
    lots, kept = np.zeros(0), list[PreviewedRow]()
    for names, numbers, some in _identifications(rows):
        drawn = random.random(some.num_rows)
        most = np.sort(lots)[count - 1] if len(lots) >= count else np.inf
        chosen = np.flatnonzero(drawn < most)
        chosen = np.sort(chosen[np.argsort(drawn[chosen])[:count]])
        lots = np.concatenate([lots, drawn[chosen]])
        kept += PreviewedRow.each(names, numbers[chosen], some.take(pa.array(chosen)), rows.splice)
        best = np.sort(np.argsort(lots)[:count])
        lots, kept = lots[best], [kept[place] for place in best]
    yield from kept


def _identifications(rows: JobSource) -> Iterator[tuple[str, NDArray[np.int64], pa.RecordBatch]]:
    """Those of each batch, with the name of its file and the number of each one's row."""
    # Not in a thread of its own: of a pipe no more is read than is shown.
    for mapped in map(rows.mapper.map, rows.read_all()):
        yield mapped.batch.source, mapped.batch.numbers[mapped.kept], mapped.identifications
