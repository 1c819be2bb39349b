"""Warnings about a job, a source and what a run sent, besides the counts."""

from __future__ import annotations

from collections.abc import Callable

from .. import amplitude
from ..job import Job
from ..mapper import holds_bytes
from ..model import Chunk, Tally
from ..reader import Source
from ..run_events import Warned


class LargeNumbers:
    """Warns of each property with whole numbers that a browser shows with other digits, once."""

    def __init__(self, warn: Callable[[Warned], None]) -> None:
        self._warn = warn
        self._warned: frozenset[str] = frozenset()

    def look(self, chunk: Chunk) -> None:
        """Check a chunk that is to be sent."""
        for name in sorted(chunk.large - self._warned):
            text = (
                f"{name}: whole numbers above {amplitude.MAX_SAFE_INTEGER:,} are sent as they are, but "
                "browsers show them with other digits; as text (`type: string`) they keep them"
            )
            self._warn(Warned("large_numbers", text))
        self._warned |= chunk.large


def uncounted_events(tally: Tally) -> str:
    """The warning about events that the server did not count."""
    return (
        f"the server counted {tally.uncounted:,} fewer events than it was sent and said it took; events that "
        "it had from an earlier try may be among them"
    )


def job_warnings(job: Job) -> list[Warned]:
    """Warnings about a job, before it is run."""
    found = []
    identification = job.identification
    unrepeatable = sorted(amplitude.UNREPEATABLE & set(identification.operators))
    if unrepeatable and not amplitude.TRANSPORT_RULES[job.destination.transport].counts_once:
        names = ", ".join(unrepeatable)
        found.append(
            Warned(
                "unrepeatable",
                f"{names}: what is sent again after a lost answer may count twice; over `transport: batch` "
                "it counts once",
            )
        )
    if set(amplitude.ID_FIELDS) <= set(identification.fields):
        found.append(Warned("linked", "user_id and device_id are both mapped: Amplitude links them for good"))
    return found


def source_warnings(job: Job, source: Source) -> list[Warned]:
    """Warnings about a source, before a job is run on it."""
    found = list(source.warnings)
    for name in amplitude.ID_FIELDS:
        spec = job.identification.fields.get(name)
        if spec is not None and spec.column is not None and not spec.transform:
            kinds = (source.schema(file).field(spec.column).type for file in _files_with(source, spec.column))
            if any(holds_bytes(kind) for kind in kinds):
                text = (
                    f"{name}: column {spec.column} holds bytes, which are sent as hexadecimal digits; "
                    "say so with `transform: [hex]`, or with `transform: [uuid]` if your other data has UUIDs"
                )
                found.append(Warned("binary_id", text))
    return found


def _files_with(source: Source, column: str) -> list[int]:
    typed = (file for file, found in enumerate(source.files) if found.format in {"parquet", "arrow"})
    return [file for file in typed if column in source.names(file)]
