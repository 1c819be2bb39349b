"""What becomes of an unfinished run when the next one is to begin: the rules, on plain facts. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast
from uuid import uuid4

from etl.checkpoint import Identity
from etl.encoder import Limits
from etl.job import Job, fingerprint
from etl.reader import Source

# Raised whenever the same rows would be cut into other chunks or encoded to other bytes than before.
_CUT = 2

Decision = Literal["begin", "resume", "restart", "finish", "stop"]
Kind = Literal["endpoint", "transport", "job", "full", "limits", "source", "snapshot"]
# Whether a file's content is what it was, by its number; None where nobody knows.
SameContent = Callable[[int], bool | None]
_Entry = Sequence[object]  # name, size, time and sample of a file; a stream has a number only
_NAME, _SIZE, _TIME, _SAMPLE = range(4)


@dataclass(frozen=True, slots=True)
class Difference:
    """How the unfinished run differs from the one that is asked for; `words` are the end of a sentence."""

    kind: Kind
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What is known of an unfinished run.

    `accepted` rows arrived, or are committed and may have. `in_flight` users may have been sent something
    that isn't committed; None: nobody knows who. `counts`: there are increments in its job or in the present
    one. `complete`: every row has its end. `folded`: the snapshot has what was accepted, so it can't be
    resumed.
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
    """Say what becomes of it.

    `resume` it; `finish` it without its source, and begin; `restart`: keep what was accepted, and begin;
    `begin` as if it had never been; or `stop`, because only a person can tell.
    """
    if found.folded:
        return "restart"
    if found.complete:
        return "resume" if found.difference is None and not restart else "finish"
    if found.difference is None and not restart:
        return "resume"
    if found.accepted == 0 and found.in_flight == 0:
        return "begin"
    if restart or found.difference is None:
        return "restart"
    if found.difference.kind == "snapshot":
        return "stop"
    if on_change is None:
        return "stop" if found.counts else "restart"
    return on_change


def identity(job: Job, source: Source, limits: Limits, *, full: bool = False) -> Identity:
    """What decides which bytes are sent: the job's fingerprint, where to, the limits, the files, `--full`."""
    files = [[file.name, file.size, file.modified, file.sample] for file in source.files]
    if not source.repeatable:
        files.append([uuid4().hex])  # a stream is never the same again
    return {
        "job": fingerprint(job),
        "endpoint": job.destination.endpoint,
        "transport": job.destination.transport,
        "full": full,
        "limits": {"identifications": limits.identifications, "bytes": limits.body_bytes, "cut": _CUT},
        "source": files,
    }


def entries_of(found: Identity) -> list[_Entry]:
    """The files of an identity."""
    return cast("list[_Entry]", found["source"])


def difference(found: Identity, expected: Identity, same_content: SameContent) -> Difference | None:
    """How two runs differ; None where both send the same bytes."""
    for kind, words in _CAUSES.items():
        if found.get(kind) != expected[kind]:
            return Difference(kind, words(found, expected))
    other = _source_difference(entries_of(found), entries_of(expected), same_content)
    return None if other is None else Difference("source", other)


_CAUSES: Final[Mapping[Kind, Callable[[Identity, Identity], str]]] = {
    "endpoint": lambda was, now: f"to another destination: {was.get('endpoint')}, not {now['endpoint']}",
    "transport": lambda was, now: f"over another transport: {was.get('transport')}, not {now['transport']}",
    "job": lambda _, __: (
        "of another job: the job file's identification, csv, changes or transform has changed since"
    ),
    "full": lambda was, _: "begun with --full" if was.get("full") else "begun without --full",
    "limits": lambda was, now: f"with other limits: --batch-size {_size(was)}, not {_size(now)}",
}


def _size(found: Identity) -> object:
    return cast("Mapping[str, object]", found.get("limits", {})).get("identifications")


def _source_difference(
    found: Sequence[_Entry], expected: Sequence[_Entry], same_content: SameContent
) -> str | None:
    """How the files differ, as the end of a sentence; a new time alone is no difference."""
    if any(len(entry) == 1 for entry in (*found, *expected)):
        return "of another source: a stream such as stdin can't be resumed"
    before, after = ([entry[_NAME] for entry in entries] for entries in (found, expected))
    if gone := [name for name in before if name not in after]:
        return f"of another source: {gone[0]} isn't among the files any more"
    if before != after:
        new = next((name for name in after if name not in before), "a file")
        return f"of another source: {new} is new, or the order differs"
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        if not _is_same(number, one, other, same_content):
            return f"of another source: {one[_NAME]} has changed (its size, time or content)"
    return None


def _is_same(number: int, one: _Entry, other: _Entry, same_content: SameContent) -> bool:
    if (one[_SIZE], one[_SAMPLE]) != (other[_SIZE], other[_SAMPLE]):
        return False
    if one[_TIME] != other[_TIME]:
        return same_content(number) is True
    # What has no time may have other rows in between.
    return one[_TIME] is not None or same_content(number) is not False


def remedy(found: Unfinished, *, can_finish: bool, increments: Sequence[str]) -> str:
    """What to do where it stops; to finish it is only advised where that can be done."""
    if found.difference is not None and found.difference.kind == "snapshot":
        return "bring that snapshot back, or drop the run with --restart"
    names = ", ".join(increments)
    begin = "with --on-source-change restart it is given up, and this one begins"
    if names:
        begin += f"; {names} of what it had accepted stay, and what it hadn't sent is left out"
    if can_finish:
        return f"finish that run first, with what it began with; or, {begin}"
    return f"what it began with is gone, so it can't be finished; {begin}"


def told(found: Unfinished, increments: Sequence[str]) -> str:
    """What it means that a run was restarted, for people."""
    which = f" {found.difference.words}" if found.difference else ""
    text = f"an unfinished run{which} was given up; "
    if found.folded:
        return f"{text}what it had accepted is kept"
    if found.in_flight is None:
        text += "nobody knows which users were in flight, so everybody is sent"
    else:
        text += f"the {found.accepted:,} rows it had accepted are kept"
        text += f", and {found.in_flight:,} users in flight are sent again" if found.in_flight else ""
    if increments and found.difference is None:
        text += f"; {', '.join(increments)} of these rows count again"
    return text


def files_of(found: Identity) -> list[tuple[str, int | None, int | None] | None]:
    """Name, size and time of each file of a run; None for what comes only once."""
    return [
        cast("tuple[str, int | None, int | None]", tuple(entry[:_SAMPLE])) if len(entry) > 1 else None
        for entry in entries_of(found)
    ]
