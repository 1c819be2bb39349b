"""`preview`: identifications of some rows. `explain`: all of one user, and what a run would send of them.

`preview` shows the first identifications, those of one user, or a sample. It reads without a thread, so that
no more of a pipe is read than is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.requests import ID_FIELDS
from ..arrow.json_text import json_lines, load_json
from ..arrow.layout import as_mask
from ..checkpoint import Checkpoint
from ..job.spec import Job
from ..model import Batch, Mapped
from ..reader import Source
from ..reader.file_reader import some_rows
from ..snapshot import FinalChanges
from ..state_files import is_there
from ..subject import Subject, id_keys, subject_of
from ..text import MASK
from .diff_base import open_diff_base
from .job_source import JobSource, original_values_of
from .row_pipeline import RowPipeline
from .run_inputs import RunInputs
from .settings import Settings


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
    rows = JobSource(job, source)

    def found(mapped: Mapped) -> Iterator[PreviewedRow]:
        own = np.arange(len(mapped.kept))
        if user is not None:
            own = np.flatnonzero(_of_user(mapped.identifications, user))
        return _previewed(rows, mapped, own[:count])

    batches = map(rows.mapper.map, rows.read_all())
    return islice(chain.from_iterable(map(found, batches)), count)


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


def _of_user(ids: pa.RecordBatch, user: str) -> NDArray[np.bool_]:
    """Which of n identifications have this user id or device id; shape (n,)."""
    found = np.zeros(ids.num_rows, dtype=np.bool_)
    for _, column in subject_of(ids).columns(ids):
        found |= as_mask(pc.equal(column, user))
    return found


# --- all of one user --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Value:
    """A value of an identification: in the source, as it is to be sent, and why these differ.

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
    """Read the whole source and explain the outcome of the user's rows; nothing is sent or changed.

    `user` is the user id or the device id, as it is sent. Raises EtlError like `run_job`.
    """
    inputs = RunInputs.of(job, source, settings)
    job, folder, rows = inputs.job, inputs.folder, JobSource(inputs.job, source)
    found = Explanation(user, job.destination.endpoint)
    mapped = [own for batch in rows.read_all() if (own := _rows_of(user, rows, batch, found)) is not None]
    if is_there(folder.rejects):
        with folder.rejects.open("rb") as file:
            for reject in map(load_json, file):
                if user in _ids_of(job, reject["values"]):
                    shown = ("source", "row", "code", "reason", "run")
                    found.rejects.append({name: reject.get(name) for name in shown})
    with Checkpoint.look(folder.checkpoint) as checkpoint:
        found.unfinished = checkpoint is not None and not checkpoint.progress().finished
    with open_diff_base(job, folder, full=settings.full) as base:
        found.known = None if base.layout is None else False
        if (snapshot := base.snapshot) is not None:
            for name in ID_FIELDS:  # as a user, or as a device
                at = snapshot.find(id_keys(name, pa.array([user])))
                if at[0] >= 0 and not found.known:
                    found.known, found.run = True, int(snapshot.runs(at)[0])
                    found.in_doubt = bool(base.in_doubt.has(at)[0])
        _compare(RowPipeline(job, rows, base), mapped, found)
    return found


def _rows_of(user: str, rows: JobSource, batch: Batch, found: Explanation) -> Mapped | None:
    """Add the user's rows of a batch to `found`; return those that give an update as a batch of their own."""
    named = _named(user, rows, batch)
    unread = {one.row for one in batch.rejects if user in _ids_of(rows.job, load_json(one.values))}
    if not named.any() and not unread:
        return None
    mapped = rows.mapper.map(batch)
    chosen = named[mapped.kept]
    own = replace(
        mapped,
        batch=some_rows(batch, mapped.kept[chosen]),
        kept=np.arange(chosen.sum()),
        identifications=mapped.identifications.filter(pa.array(chosen)),
    )
    rejects = {reject.row: (reject.code, reject.reason) for reject in mapped.rejects}
    values = dict(zip(own.batch.numbers.tolist(), _values(rows, own), strict=True))
    for number in sorted({*batch.numbers[named].tolist(), *unread}):
        why = rejects.get(number, (None, None))
        found.rows.append(UserRow(batch.source, number, values.get(number, ()), *why))
    return replace(own, rejects=(), skipped=())


def _named(user: str, rows: JobSource, batch: Batch) -> NDArray[np.bool_]:
    """Which rows of a batch are the user's, by the id that is sent or the text in the source; shape (n,)."""
    own = np.zeros(batch.rows.num_rows, dtype=np.bool_)
    positions, ids = rows.mapper.placed_ids(batch)
    own[positions] = _of_user(ids, user)
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


def _values(rows: JobSource, own: Mapped) -> Iterator[tuple[Value, ...]]:
    """The values of each row of a batch whose rows all give an update."""
    skipped = {(one.column, number): one.reason for one in own.skipped for number in one.rows.tolist()}
    numbers = own.batch.numbers.tolist()
    originals = original_values_of(own, own.kept, rows.job.identification.columns())
    for number, given, sent in zip(numbers, originals, rows.decoded(own.identifications), strict=True):
        found = []
        for path, spec in rows.job.identification.located():
            value: Any = sent
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            source, reason = None if spec.column is None else given.get(spec.column), None
            if value is None:
                removed = ", so the property is removed ($unset)" if spec.null == "unset" else ""
                reason = skipped.get((spec.column or "", number), f"no value in the source{removed}")
            elif spec.default is not None and source in (None, ""):
                reason = "the default"
            if source not in (None, "") and any(step.verb == "sha256" for step in spec.transform):
                source, reason = MASK, reason or "hashed, so its value in the source is hidden"
            found.append(Value(".".join(map(str, path)), spec.column, source, value, reason))
        yield tuple(found)


def _compare(pipeline: RowPipeline, mapped: list[Mapped], found: Explanation) -> None:
    """Compare the user's rows with the snapshot as a run does: once to know the end, then to send."""
    base, differ, final = pipeline.diff_base, pipeline.differ(), None
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        if differ is not None and base.snapshot is not None and not base.full:
            final = stack.enter_context(FinalChanges(base.snapshot, differ.layout, Path(scratch, "final")))
            for compared in differ.each(mapped):
                seen = compared.seen
                assert seen is not None and compared.ids is not None  # noqa: S101, PT018 - there is a snapshot
                final.add(seen, compared.ids)
                given, differing = seen.fingerprints != 0, seen.differing
                for column, name in enumerate(differ.layout.names):
                    for row in np.flatnonzero(given[:, column]).tolist():
                        found.properties[name] = "differs" if differing[row, column] else "same"
            final.finish()
        again = pipeline.differ(final)
        for compared in pipeline.diffed(again, mapped):
            found.next += pipeline.rows.decoded(compared.mapped.identifications)
