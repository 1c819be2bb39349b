"""`explain`: the rows of one user, what each value became, what the snapshot holds, what a run would send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.operators import ID_FIELDS
from ..arrow.json_lines import Splice, json_lines
from ..arrow.layout import as_mask
from ..arrow.originals import original_rows, rows_with_originals
from ..checkpoint import Checkpoint, StateDir
from ..job import Job
from ..model import Batch, Mapped
from ..reader import Source
from ..reader.file_reader import some_rows
from ..snapshot import FinalChanges
from ..state_files import is_there
from ..subject import Subject, id_keys
from ..text import MASK
from .diff_base import DiffBase, open_diff_base
from .row_pipeline import JobSource, RowPipeline
from .settings import Settings, at_endpoint


@dataclass(frozen=True, slots=True)
class Value:
    """One place of the identification: the value in the source, the value to be sent, and why it differs.

    `column` is None for a constant. `sent` is None if nothing is sent for it; then `reason` has the cause.
    Where the value is sent hashed, `source` is dots in its place: who may see the hash may not see the value.
    """

    place: str
    column: str | None
    source: object
    sent: object
    reason: str | None


@dataclass(frozen=True, slots=True)
class UserRow:
    """A row that names the user: its values, or the code and the reason of its reject."""

    source: str
    row: int
    values: tuple[Value, ...] = ()
    code: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class Explanation:
    """All that is known about one user.

    `known`: whether the snapshot has the user; None if nothing is compared. `run` is the number of the last
    run that sent or confirmed values. `properties` says of each field group that the rows give whether the
    snapshot holds the last row's value (`same`) or not (`differs`). `next` has what a run would send, one
    identification a row; those of one chunk are merged. `rejects` are the user's rows in the file of rejects.
    """

    user: str
    endpoint: str
    rows: list[UserRow] = field(default_factory=list)
    known: bool | None = None
    in_doubt: bool = False
    run: int | None = None
    properties: dict[str, str] = field(default_factory=dict)
    next: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    unfinished: bool = False


def explain_user(job: Job, source: Source, user: str, *, settings: Settings) -> Explanation:
    """Read the whole source, and say what becomes of the user's rows; nothing is sent or changed.

    `user` is the user id or the device id, as it is sent. Raises EtlError like `run_job`.
    """
    job = at_endpoint(job, settings)
    folder = StateDir(settings.state_dir or job.state_dir)
    rows = JobSource(job, source)
    found = Explanation(user, job.destination.endpoint)
    mapped = []
    for batch in rows.read_all():
        own = _rows_of(user, rows, batch, found)
        if own is not None:
            mapped.append(own)
    found.rejects = list(_past_rejects(job, folder.rejects, user))
    with Checkpoint.look(folder.checkpoint) as checkpoint:
        if checkpoint is not None:
            found.unfinished = not checkpoint.progress().finished
    with open_diff_base(job, folder, full=settings.full) as base:
        _look_up(base, found)
        _compare(RowPipeline(job, rows, base), mapped, found)
    return found


def _rows_of(user: str, rows: JobSource, batch: Batch, found: Explanation) -> Mapped | None:
    """Add the user's rows of a batch to `found`; return those that give an update as a batch of their own."""
    own = _named(user, rows, batch)
    unread = [reject for reject in batch.rejects if user in _ids_of(rows.job, orjson.loads(reject.values))]
    if not own.any() and not unread:
        return None
    mapped = rows.mapper.map(batch)
    chosen = own[mapped.kept]
    kept = mapped.kept[chosen]
    part = some_rows(batch, kept)
    identifications = mapped.identifications.filter(pa.array(chosen))
    numbers = set(batch.numbers[own].tolist()) | {reject.row for reject in unread}
    rejects = {reject.row: reject for reject in mapped.rejects if reject.row in numbers}
    values = dict(zip(part.numbers.tolist(), _values(rows, part, identifications, mapped), strict=True))
    for number in sorted(numbers):
        reject = rejects.get(number)
        code, reason = (reject.code, reject.reason) if reject else (None, None)
        found.rows.append(UserRow(batch.source, number, values.get(number, ()), code, reason))
    at = np.arange(len(kept))
    return replace(mapped, batch=part, kept=at, identifications=identifications, rejects=(), skipped=())


def _named(user: str, rows: JobSource, batch: Batch) -> NDArray[np.bool_]:
    """Which rows of a batch are the user's, by the id that is sent or the text in the source; shape (n,)."""
    own = np.zeros(batch.rows.num_rows, dtype=np.bool_)
    positions, ids = rows.mapper.placed_ids(batch)
    for column in ids.columns:
        own[positions] |= as_mask(pc.equal(column, user))
    for name in ids.schema.names:
        column = rows.job.identification.fields[name].column
        if column in batch.rows.schema.names:
            values = batch.rows.column(column)
            if pa.types.is_string(values.type) or pa.types.is_integer(values.type):
                own |= as_mask(pc.equal(pc.utf8_trim_whitespace(values.cast(pa.string())), user))
    return own


def _ids_of(job: Job, values: dict[str, Any]) -> set[str]:
    """The texts in the id columns of a row as the source has it."""
    fields = job.identification.fields
    names = [fields[name].column for name in Subject.of(fields).fields]
    return {str(values[name]).strip() for name in names if name in values}


def _values(
    rows: JobSource, part: Batch, identifications: pa.RecordBatch, mapped: Mapped
) -> Iterator[tuple[Value, ...]]:
    """For each row of a batch, all of which give an update, what became of each value."""
    at, whole = range(len(part.numbers)), rows_with_originals(part)
    originals = original_rows(
        whole, at, source=part.source, text=part.text, keep_empty=rows.mapper.keep_empty
    )
    skipped = {(one.column, number): one.reason for one in mapped.skipped for number in one.rows.tolist()}
    for number, original, sent in zip(
        part.numbers.tolist(), originals, _decoded(identifications, rows.splice), strict=True
    ):
        given, found = orjson.loads(original.values), []
        for path, spec in rows.job.identification.located():
            value: Any = sent
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            reason = None
            if value is None:
                reason = skipped.get((spec.column or "", number), "no value in the source")
                if spec.null == "unset" and reason == "no value in the source":
                    reason = "no value in the source, so the property is removed ($unset)"
            elif spec.default is not None and given.get(spec.column) in (None, ""):
                reason = "the default"
            source = given.get(spec.column)
            if source not in (None, "") and any(step.verb == "sha256" for step in spec.transform):
                source, reason = MASK, reason or "hashed, so its value in the source is hidden"
            found.append(Value(".".join(map(str, path)), spec.column, source, value, reason))
        yield tuple(found)


def _decoded(identifications: pa.RecordBatch, splice: Splice | None) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in json_lines(identifications, splice=splice).splitlines()]


def _look_up(base: DiffBase, found: Explanation) -> None:
    """Find the user in the snapshot, as a user or as a device."""
    if base.layout is None:
        return
    found.known = False
    if base.snapshot is None:
        return
    for name in ID_FIELDS:
        at = base.snapshot.find(id_keys(name, pa.array([found.user])))
        if at[0] >= 0 and not found.known:
            found.known, found.run = True, int(base.snapshot.runs(at)[0])
            found.in_doubt = base.in_doubt is not None and bool(base.in_doubt.has(at)[0])


def _compare(pipeline: RowPipeline, mapped: list[Mapped], found: Explanation) -> None:
    """Compare the user's rows with the snapshot as a run does: once to know the end, then to send."""
    base, differ = pipeline.diff_base, pipeline.differ()
    if differ is None:
        for some in mapped:
            found.next += _decoded(some.identifications, pipeline.rows.splice)
        return
    final = None
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        if base.snapshot is not None and base.layout is not None and not base.full:
            final = stack.enter_context(FinalChanges(base.snapshot, base.layout, Path(scratch, "final")))
            for compared in differ.each(mapped):
                seen = compared.seen
                assert seen is not None and compared.ids is not None  # noqa: S101, PT018 - there is a snapshot
                final.add(seen, compared.ids)
                given, differing = seen.fingerprints != 0, seen.differing
                for column, name in enumerate(base.layout.names):
                    for row in np.flatnonzero(given[:, column]).tolist():
                        found.properties[name] = "differs" if differing[row, column] else "same"
            final.finish()
        again = pipeline.differ(final)
        for compared in again.each(mapped) if again else ():
            found.next += _decoded(compared.mapped.identifications, pipeline.rows.splice)


def _past_rejects(job: Job, path: Path, user: str) -> Iterator[dict[str, Any]]:
    """The user's rows in a file of rejects, as its lines have them."""
    if not is_there(path):
        return
    with path.open("rb") as file:
        for line in file:
            reject = orjson.loads(line)
            if user in _ids_of(job, reject["values"]):
                yield {name: reject.get(name) for name in ("source", "row", "code", "reason", "run")}
