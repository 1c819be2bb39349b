"""What a user should know of a job and of how a run went, besides the counts."""

from __future__ import annotations

from collections.abc import Callable

from etl import amplitude
from etl.job import Job
from etl.mapper import holds_bytes
from etl.model import Chunk, Tally, Warned
from etl.reader import Source


class LargeNumbers:
    """Warns of each property with whole numbers that a browser shows with other digits, once."""

    def __init__(self, warn: Callable[[Warned], None]) -> None:
        self._warn = warn
        self._told: frozenset[str] = frozenset()

    def look(self, chunk: Chunk) -> None:
        """Look at a chunk that is to be sent."""
        for name in sorted(chunk.large - self._told):
            words = (
                f"{name}: whole numbers above {amplitude.MAX_SAFE_INTEGER:,} are sent as they are, but "
                "browsers show them with other digits; as text (`type: string`) they keep them"
            )
            self._warn(Warned("large_numbers", words))
        self._told |= chunk.large


def uncounted_events(tally: Tally) -> str:
    """What it means that the server counted fewer events than were sent."""
    return (
        f"the server counted {tally.uncounted:,} fewer events than it was sent and said it took; events that "
        "it had from an earlier try may be among them"
    )


def warnings_of(job: Job) -> list[Warned]:
    """What a user should know of a job before it is run."""
    found = []
    identification = job.identification
    unrepeatable = sorted(amplitude.UNREPEATABLE & set(identification.operators))
    if unrepeatable and not amplitude.TRANSPORTS[job.destination.transport].counts_once:
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
    """What a user should know of a source before a job is run on it."""
    found = list(source.warnings)
    for name in amplitude.ID_FIELDS:
        spec = job.identification.fields.get(name)
        if spec is not None and spec.column is not None and not spec.transform:
            kinds = (source.schema(file).field(spec.column).type for file in _files_with(source, spec.column))
            if any(holds_bytes(kind) for kind in kinds):
                words = (
                    f"{name}: column {spec.column} holds bytes, which are sent as hexadecimal digits; "
                    "say so with `transform: [hex]`, or with `transform: [uuid]` if your other data has UUIDs"
                )
                found.append(Warned("binary_id", words))
    return found


def _files_with(source: Source, column: str) -> list[int]:
    typed = (file for file, found in enumerate(source.files) if found.format in {"parquet", "arrow"})
    return [file for file in typed if column in source.names(file)]
