"""What a checkpoint is told of its job, so that its run can be ended when the job file is another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from etl.job import Job, fingerprint
from etl.pipeline.precheck import increments_of
from etl.reader import Source
from etl.snapshot import Bundle, Layout, layout_of


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """A run's job, as far as its end needs it.

    `files` is how many the source has; behind them come the users who left. `counts`: it has increments.
    `resent`: its source are rejects. `layout` None: nothing is compared.
    """

    endpoint: str
    fingerprint: str
    files: int
    counts: bool
    resent: bool
    layout: Layout | None

    @classmethod
    def of(cls, job: Job, source: Source) -> Self:
        """That of a run which is about to begin."""
        return cls(
            endpoint=job.destination.endpoint,
            fingerprint=fingerprint(job),
            files=len(source.files),
            counts=bool(increments_of(job)),
            resent=source.holds_rejects,
            layout=layout_of(job.identification, job.changes),
        )

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`."""
        return cls(**{**plain, "layout": _layout(plain["layout"])})

    def plain(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)


def _layout(plain: Mapping[str, Any] | None) -> Layout | None:
    if plain is None:
        return None
    bundles = tuple(
        Bundle(**{**bundle, "paths": tuple(tuple(path) for path in bundle["paths"])})
        for bundle in plain["bundles"]
    )
    return Layout(plain["mode"], bundles, plain["paired"])
