"""Stages 1 to 4: READ, MAP, (DIFF,) ENCODE. Rows of a source become chunks, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from etl.encoder import Encoder, Limits
from etl.job import Job, check_columns
from etl.mapper import Mapper, load_transform, splice_json
from etl.model import Chunk, Stretch
from etl.pipeline.ahead import read_ahead
from etl.reader import Source


@dataclass(frozen=True, slots=True)
class Production:
    """Makes chunks of a source, as a job says; `source` has the columns that the job needs."""

    job: Job
    source: Source
    mapper: Mapper
    limits: Limits

    @classmethod
    def of(cls, job: Job, source: Source, limits: Limits) -> Production:
        """Check every file's columns and load the job's transform. Raises JobError or UsageError."""
        transform = load_transform(job.transform, job.folder) if job.transform else None
        if transform is None:
            for file in range(len(source.files)):
                schema = source.schema(file)
                if source.files[file].size != 0 or len(schema):
                    check_columns(job, schema.names)
        return cls(job, source, Mapper(job.identification, transform=transform), limits)

    def chunks(self, gaps: Iterable[Stretch]) -> Iterator[list[Chunk]]:
        """Read these stretches in order; yield the chunks of each batch as a list."""
        for gap in gaps:
            encoder = Encoder(
                first=gap.first,
                limits=self.limits,
                splice=splice_json if self.mapper.has_raw_json else None,
            )
            with closing(read_ahead(self.source.read(gap))) as batches:
                for batch in batches:
                    yield list(encoder.feed(self.mapper.map(batch)))
            yield list(encoder.finish())
