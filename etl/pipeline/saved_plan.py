"""A plan in a file: what it was made of, and the proof that a run sends exactly that.

What a run sends depends on the source, the job, the snapshot and a few options. A plan has a digest of each,
to name what differs. The proof is the digest of all identifications: a run makes them anew and compares it
before the first request.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ..checkpoint import StateDir
from ..errors import EtlError, PlanError, SourceError, StaleCheckpointError, StateError, UsageError
from ..job.spec import key_fingerprints
from ..mapper import load_transform
from ..snapshot import layout_of
from ..state_files import replacing_file, write_whole
from ..tally import ROW_ENDS
from ..text import counted
from .status import destination_folder, look_at_snapshot

if TYPE_CHECKING:
    from .plan import Plan
    from .run_inputs import RunInputs

_FORMAT: Final = 1
_MOST_BEGUN: Final = 1000  # applied plans that the state folder remembers
_ANEW: Final = "make it anew with `propsync check JOB --save FILE`"
_COUNTS: Final = {name: name for name in ("rows", *ROW_ENDS)} | {"accepted": "to be sent"}
_FILE: Final = {"name": str, "bytes": (int, None), "sha256": str}
_FAULT: Final = {"column": str, "count": int}
# What is read of a plan file, by type: in a tuple what may be null, in a list what each item is, behind `str`
# what each value is.
_CONTENT: Final = {
    **dict.fromkeys(("propsync", "made"), str),
    "inputs": {
        **dict.fromkeys(("job", "endpoint", "transport"), str),
        **dict.fromkeys(("identifications", "bytes"), int),
        "full": bool,
        "transform": (str, None),
        "keys": {str: str},
        "files": [_FILE],
    },
    "snapshot": ({"run": int, "written": str, "users": int, "sha256": str}, None),
    "identifications": {"count": int, "sha256": str},
    "plan": {
        **dict.fromkeys(("job", "endpoint"), str),
        **dict.fromkeys((*_COUNTS, "requests", "bytes", "users"), int),
        "seconds": int | float,
        "changes": (dict.fromkeys(("new", "changed", "unchanged"), int), None),
        "properties": [{"property": str, "column": (str, None), "filled": int, "sent": int}],
        "rejected_values": [_FAULT],
        "skipped": [_FAULT],
        "rejects_by_code": {str: int},
        "guards": [{"guard": str, "limit": str, "found": str, "stops": (str, None)}],
        "warnings": [{"message": str}],
    },
}


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """The content of a plan file; `path` is what messages call it."""

    data: Mapping[str, Any]
    path: str = "plan"

    @classmethod
    def of(cls, plan: Plan, *, with_values: bool = False) -> Self:
        """Describe a plan; see `Plan.save`."""
        inputs = _inputs_of(plan.inputs)
        if (changed := plan.inputs.source.changed()) is not None:
            raise SourceError(f"the source changed while it was read: {changed}", hint="plan again")
        data = {
            "format": _FORMAT,
            "propsync": version("propsync"),
            "made": datetime.now(UTC).isoformat(),
            "inputs": inputs,
            "snapshot": _snapshot_of(plan.inputs),
            "identifications": {"count": plan.tally.accepted, "sha256": plan.sha256.hexdigest()},
            "plan": plan.as_dict(mask=not with_values),
        }
        return cls({**data, "digest": _digest(data)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan file. Raises UsageError for a damaged one, PlanError for one of another format."""
        try:
            data = json.loads(path.read_bytes())
        except OSError as error:
            raise UsageError(f"the plan {path} can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not a plan: it is not JSON", hint=_ANEW) from error
        if not isinstance(data, dict) or "format" not in data or "digest" not in data:
            raise UsageError(f"{path} is not a plan", hint=_ANEW)
        if data["format"] != _FORMAT:
            made = f"it has format {data['format']} (propsync {data.get('propsync')})"
            _refuse(path, [f"{made}, and this version takes format {_FORMAT}"])
        if data["digest"] != _digest({name: value for name, value in data.items() if name != "digest"}):
            message = f"the plan {path} was changed after it was made: its digest does not fit"
            raise UsageError(message, hint=_ANEW)
        if (fault := next(_faults(data, _CONTENT), None)) is not None:
            raise UsageError(f"{path} is not a plan of `check --save`: {fault}", hint=_ANEW)
        return cls(data, str(path))

    @property
    def digest(self) -> str:
        """64 hex digits that name the plan."""
        return str(self.data["digest"])

    @property
    def updates(self) -> int:
        """How many identifications it has."""
        return int(self.data["identifications"]["count"])

    def write(self, path: Path) -> None:
        """Write the file, which only its owner can read. Raises StateError."""
        write_whole(path, json.dumps(self.data, indent=1) + "\n", private=True)

    # --- whether it holds ------------------------------------------------------------------------------

    def check(self, now: Plan) -> None:
        """Raise PlanError if a run would not send exactly this; `now` is what it would send."""
        self.check_inputs(now.inputs)
        self.check_state(now.inputs)
        self.check_result(now)

    def check_inputs(self, now: RunInputs) -> None:
        """Raise PlanError if the source, the job or an option is another one than planned."""
        current, planned = _inputs_of(now), self.data["inputs"]
        found = [*_input_differences(planned, current)]
        if planned["files"] != current["files"] and now.job.changes.absent == "keep":
            with suppress(EtlError):
                before, rows = self.data["plan"]["rows"], now.source.count_rows(1 << 62)
                found += [f"rows: {before:,} -> {rows:,}"] if before != rows else []
        _refuse(self.path, found)

    def check_state(self, now: RunInputs) -> None:
        """Raise PlanError if a run of the plan began before, or the snapshot is another one than planned.

        Not for an unfinished run of the plan: that is resumed.
        """
        if (began := _begun(now.folder).get(self.digest)) is not None:
            text = f"it was applied already: a run of it began at {began}"
            hint = "a plan is sent once; make a new one with `propsync check JOB --save FILE`"
            _refuse(self.path, [text], hint)
        before, after = self.data["snapshot"], _snapshot_of(now)
        if before == after:
            return
        if after is None:
            text = f"the snapshot is gone; it was written at {before['written']}"
        elif "damaged" in after:
            text = f"the snapshot is damaged: {after['damaged']}"
        elif before is None:
            text = f"there was no snapshot; run {after['run']} wrote one at {after['written']}"
        elif (before["run"], before["written"]) == (after["run"], after["written"]):
            text = f"the snapshot of run {after['run']} has other content"
        else:
            text = f"another run happened: run {after['run']} wrote the snapshot at {after['written']}"
        _refuse(self.path, [text])

    def check_result(self, now: Plan) -> None:
        """Raise PlanError if a plan made now of the same inputs has other identifications or counts."""
        planned, current = self.data["plan"], now.as_dict(mask=True)
        counts = ((words, planned[name], current[name]) for name, words in _COUNTS.items())
        found = [f"{words}: {before:,} -> {after:,}" for words, before, after in counts if before != after]
        both = [{one["property"]: one["sent"] for one in side["properties"]} for side in (planned, current)]
        sent = ((name, both[0].get(name), rows) for name, rows in both[1].items())
        found += [f"{name}: {before} -> {after} rows" for name, before, after in sent if before != after]
        if self.data["identifications"]["sha256"] != now.sha256.hexdigest():
            found += [] if found else [f"{counted(self.updates, 'update has', 'updates have')} other content"]
            if self.data["propsync"] != version("propsync"):
                found.append(f"propsync: {self.data['propsync']} -> {version('propsync')}")
            elif now.inputs.job.transform is not None:
                found.append("the transform gives other results for the same rows")
        _refuse(self.path, found)

    def begin(self, folder: StateDir) -> None:
        """Remember that a run of it began. Raises StateError."""
        begun = _begun(folder)
        if self.digest not in begun:
            begun[self.digest] = datetime.now(UTC).isoformat(timespec="seconds")
            with replacing_file(folder.plans) as file:
                file.write(json.dumps(dict([*begun.items()][-_MOST_BEGUN:])).encode())

    def refuse_unfinished(self, text: str) -> None:
        """Raise PlanError for an unfinished run that isn't of this plan; `text` says what it belongs to."""
        hint = "finish that run first, without a plan; then make a new plan with `propsync check --save`"
        _refuse(self.path, [f"there is an unfinished run {text}"], hint)


# --- what a plan is made of -------------------------------------------------------------------------------


def _inputs_of(run: RunInputs) -> dict[str, Any]:
    """What a run begins with but the snapshot, as digests and plain data.

    Raises UsageError for a source that can be read only once, SourceError.
    """
    job, files = run.job, run.source.files
    digests = [run.source.sha256(file) for file in range(len(files))]
    if None in digests:
        raise stream_error()
    transform = None
    if job.transform is not None:
        load_transform(job.transform, job.folder)
        path = getattr(sys.modules[job.transform.partition(":")[0]], "__file__", None)
        transform = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None
    return {
        "job": job.name,
        "endpoint": job.destination.endpoint,
        "transport": job.destination.transport,
        "keys": key_fingerprints(job),
        "transform": transform,
        "full": run.settings.full,
        "identifications": run.limits.identifications,
        "bytes": run.limits.body_bytes,
        "files": [
            {"name": file.name, "bytes": file.size, "sha256": digest}
            for file, digest in zip(files, digests, strict=True)
        ],
    }


def _snapshot_of(run: RunInputs) -> dict[str, object] | None:
    """The snapshot that rows are compared with: the run that wrote it, when, and its digest."""
    job = run.job
    if layout_of(job.identification, job.changes) is None:
        return None
    try:
        path = destination_folder(run.folder, job.destination.endpoint).snapshot
        if (found := look_at_snapshot(path)) is None:
            return None
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except StaleCheckpointError as error:
        return {"damaged": error.message}
    header = found[0].header
    return {"run": header.number, "written": header.created, "users": found[1], "sha256": digest}


def _input_differences(plan: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two inputs as data, a phrase each."""
    words = {"job": "job", "endpoint": "destination", "transport": "transport"}
    words |= {"identifications": "identifications in a request", "bytes": "bytes of a request"}
    yield from (f"{words[name]}: {plan[name]} -> {now[name]}" for name in words if plan[name] != now[name])
    if plan["full"] != now["full"]:
        yield "planned with --full" if plan["full"] else "planned without --full"
    before, after = plan["keys"], now["keys"]
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        yield f"the job changed: {', '.join(changed)}"
    if plan["transform"] != now["transform"]:
        yield "the module of the transform changed"
    old, new = ({file["name"]: file for file in files} for files in (plan["files"], now["files"]))
    for name, file in old.items():
        if name not in new:
            yield f"source: {name} is not among the files any more"
        elif new[name] != file:
            sizes = file["bytes"], new[name]["bytes"]
            same = "other content" if sizes[0] == sizes[1] else f"{sizes[0]:,} -> {sizes[1]:,} bytes"
            yield f"source: {name} changed ({same})"
    yield from (f"source: {name} is new" for name in new if name not in old)
    if list(old) != list(new) and old.keys() == new.keys():
        yield "source: the order of the files"


def stream_error() -> UsageError:
    """The error for planning a source that can be read only once."""
    return UsageError(
        "a stream is gone once it was read, so there can be no plan of it",
        hint="save it to a file and name that, or leave the plan out",
    )


# --- the file ---------------------------------------------------------------------------------------------


def _faults(value: Any, wanted: Any, place: str = "") -> Iterator[str]:
    """What a part of a plan file lacks, or has of another type."""
    if isinstance(wanted, tuple):
        wanted = object if value is None else wanted[0]
    kind = type(wanted) if isinstance(wanted, dict | list) else wanted
    if not isinstance(value, kind):
        yield f"`{place[1:]}` is of a wrong type"
    elif isinstance(wanted, list):
        for number, one in enumerate(value):
            yield from _faults(one, wanted[0], f"{place}[{number}]")
    elif isinstance(wanted, dict):
        for name, inner in (dict.fromkeys(value, wanted[str]) if str in wanted else wanted).items():
            if name in value:
                yield from _faults(value[name], inner, f"{place}.{name}")
            else:
                yield f"`{place[1:]}.{name}` is missing" if place else f"`{name}` is missing"


def _refuse(path: str | Path, differences: list[str], hint: str | None = None) -> None:
    """Raise PlanError if there are differences."""
    if differences:
        message = f"the plan {path} doesn't hold any more; nothing was sent"
        raise PlanError(message, differences, hint=hint)


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _begun(folder: StateDir) -> dict[str, str]:
    """When a run of each plan began, by the plan's digest. Raises StateError."""
    try:
        return dict(json.loads(folder.plans.read_bytes()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        message = f"{folder.plans} can't be read, so it is unknown which plans were applied"
        raise StateError(message, hint="look at `propsync runs`, and remove the file") from error
