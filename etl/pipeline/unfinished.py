"""What becomes of an unfinished run when the next one begins: the rules, on plain facts. No I/O."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast
from uuid import uuid4

from ..amplitude.limits import INSERT_ID_DAYS, TRANSPORT_RULES
from ..checkpoint import RunIdentity
from ..checkpoint.in_flight_file import InFlightContents
from ..job import Job, fingerprint
from ..model import SourceFile

if TYPE_CHECKING:
    from .run_inputs import RunInputs

# Raised whenever the same rows would be cut into other chunks or encoded to other bytes than before.
_CUT: Final = 2
# An hour less than the server remembers events, for the run itself.
_REMEMBERED_SECONDS: Final = INSERT_ID_DAYS * 86_400 - 3_600

Decision: TypeAlias = Literal["begin", "resume", "restart", "finish", "stop"]
Cause: TypeAlias = Literal["endpoint", "transport", "job", "full", "limits", "source", "snapshot", "plan"]
# Whether the content of a file, by its number, is still the same; None if that is unknown.
SameContent: TypeAlias = Callable[[int], bool | None]
_Entry: TypeAlias = Sequence[object]  # name, size, time and sample of a file; a stream has a number only
_NAME, _SIZE, _TIME, _SAMPLE = range(4)


@dataclass(frozen=True, slots=True)
class Difference:
    """How the unfinished run differs from the one that begins; `text` is the end of a sentence."""

    cause: Cause
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What is known of an unfinished run.

    `accepted` rows arrived, or are committed and may have. `in_flight` users may have been sent something
    that isn't committed; None if they are unknown. `counts`: there are increments in its job or in the
    present one. `complete`: every row is committed. `folded`: the snapshot has what was accepted, so the run
    can't be resumed.
    """

    difference: Difference | None
    accepted: int = 0
    in_flight: int | None = 0
    counts: bool = False
    complete: bool = False
    folded: bool = False


def decide(
    found: Unfinished, *, restart: bool = False, on_change: Literal["stop", "restart"] | None = None
) -> Decision:
    """Decide what becomes of it.

    `resume` it; `finish` it without its source, and begin a new run; `restart`: keep what was accepted, and
    begin; `begin` as if it had never been; or `stop`, because a person has to decide.
    """
    if found.folded:
        return "restart"
    if found.difference is None and not restart:
        return "resume"
    if found.complete:
        return "finish"
    if found.accepted == 0 and found.in_flight == 0:
        return "begin"
    if restart or found.difference is None:
        return "restart"
    if found.difference.cause == "snapshot":
        return "stop"
    return on_change or ("stop" if found.counts else "restart")


# --- what a run is identified by -------------------------------------------------------------------------


def identity(inputs: RunInputs) -> RunIdentity:
    """What decides which bytes are sent: the job's fingerprint, where to, the limits, the files, `--full`."""
    job, source, limits = inputs.job, inputs.source, inputs.limits
    files = list(map(entry_of, source.files))
    if not source.repeatable:
        files.append([uuid4().hex])  # a stream is never the same again
    return {
        "job": fingerprint(job),
        "endpoint": job.destination.endpoint,
        "transport": job.destination.transport,
        "full": inputs.settings.full,
        "limits": {"identifications": limits.identifications, "bytes": limits.body_bytes, "cut": _CUT},
        "source": files,
    }


def entry_of(file: SourceFile) -> list[object]:
    """What identifies a file: its name, size, time and sample."""
    return [file.name, file.size, file.modified, file.sample]


def entries_of(found: RunIdentity) -> list[_Entry]:
    """The files of an identity."""
    return cast("list[_Entry]", found["source"])


def source_mark(expected: RunIdentity, base: str, digests: Mapping[int, str]) -> str:
    """A digest of all that decides which bytes a run sends; of a file its content rather than its time."""
    files = [
        [*entry[:2], *([digests[number]] if number in digests else entry[2:])]
        for number, entry in enumerate(entries_of(expected))
    ]
    text = json.dumps([{**expected, "source": files}, base], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


_CAUSES: Final[Mapping[Cause, Callable[[RunIdentity, RunIdentity], str]]] = {
    "endpoint": lambda was, now: f"to another destination: {was.get('endpoint')}, not {now['endpoint']}",
    "transport": lambda was, now: f"over another transport: {was.get('transport')}, not {now['transport']}",
    "job": lambda _, __: (
        "of another job: the job file's identification, csv, changes or transform has changed since"
    ),
    "full": lambda was, _: "begun with --full" if was.get("full") else "begun without --full",
    "limits": lambda was, now: f"with other limits: --batch-size {_size(was)}, not {_size(now)}",
}


def difference(found: RunIdentity, expected: RunIdentity, same_content: SameContent) -> Difference | None:
    """How two runs differ; None if both send the same bytes. A file's new time alone is not a difference."""
    for cause, describe in _CAUSES.items():
        if found.get(cause) != expected[cause]:
            return Difference(cause, describe(found, expected))
    old, new = entries_of(found), entries_of(expected)
    if any(len(entry) == 1 for entry in (*old, *new)):
        return Difference("source", "of another source: a stream such as stdin can't be resumed")
    before, after = [entry[_NAME] for entry in old], [entry[_NAME] for entry in new]
    if gone := [name for name in before if name not in after]:
        return Difference("source", f"of another source: {gone[0]} isn't among the files any more")
    if before != after:
        name = next((name for name in after if name not in before), "a file")
        return Difference("source", f"of another source: {name} is new, or the order differs")
    for number, (one, other) in enumerate(zip(old, new, strict=True)):
        same = (one[_SIZE], one[_SAMPLE]) == (other[_SIZE], other[_SAMPLE])
        if same and one[_TIME] != other[_TIME]:
            same = same_content(number) is True
        elif same and one[_TIME] is None:  # what has no time may have other rows in the middle
            same = same_content(number) is not False
        if not same:
            text = f"of another source: {one[_NAME]} has changed (its size, time or content)"
            return Difference("source", text)
    return None


def _size(found: RunIdentity) -> object:
    return cast("Mapping[str, object]", found.get("limits", {})).get("identifications")


# --- messages --------------------------------------------------------------------------------------------


def stop_hint(found: Unfinished, *, can_finish: bool, increments: Sequence[str]) -> str:
    """What to do if the decision is to stop; finishing the run is only advised if that is possible."""
    if found.difference is not None and found.difference.cause == "snapshot":
        return "bring that snapshot back, or drop the run with --restart"
    names = ", ".join(increments)
    begin = "with --on-source-change restart it is given up, and this one begins"
    if names:
        begin += f"; {names} of what it had accepted stay, and what it hadn't sent is left out"
    if can_finish:
        return f"finish that run first, with what it began with; or, {begin}"
    return f"what it began with is gone, so it can't be finished; {begin}"


def restart_message(found: Unfinished, increments: Sequence[str]) -> str:
    """What it means that a run was restarted."""
    which = f" {found.difference.text}" if found.difference else ""
    text = f"an unfinished run{which} was given up; "
    if found.folded:
        return f"{text}what it had accepted is kept"
    if found.in_flight is None:
        text += "the users in flight are unknown, so all users are sent"
    else:
        text += f"the {found.accepted:,} rows it had accepted are kept"
        text += f", and {found.in_flight:,} users in flight are sent again" if found.in_flight else ""
    if increments and found.difference is None:
        text += f"; {', '.join(increments)} of these rows count again"
    return text


def lost_hint(job: Job, increments: Sequence[str], left: InFlightContents | None, *, same: bool) -> str:
    """What to do about a lost checkpoint; `same`: this run would send what the lost one sent."""
    if not increments and (left is None or not left.mark.counts):
        return "run with --restart: it begins anew, and what arrived before arrives once more, as it was"
    once = TRANSPORT_RULES[job.destination.transport].counts_once and left is not None and not left.finished
    if once and left is not None and time.time() - left.mark.began < _REMEMBERED_SECONDS:
        if same:
            return "run with --restart: the same events are sent again, and what had arrived counts once"
        return (
            "run with the source and the job file that it began with, and --restart: the same events are "
            "sent again, and what had arrived counts once; then run this one"
        )
    what = ", ".join(increments) or "increments"
    return (
        "put the file back from a copy, if there is one; with --restart everything is sent again, "
        f"and {what} of what had arrived counts twice"
    )
