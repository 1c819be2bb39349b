"""What is wrong with which event of an upload: each by its index, in the words of the event APIs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from etl.sandbox.checks import IdLengthError, MissingIdError, RequestRefusedError, broken_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from etl.sandbox.checks import Identification

IDENTIFY: Final = "$identify"
GROUP_IDENTIFY: Final = "$groupidentify"
Named: TypeAlias = Literal["all", "first", "none"]
NAMED: Final[tuple[Named, ...]] = ("all", "first", "none")

INVALID: Final = "events_with_invalid_fields"
MISSING: Final = "events_with_missing_fields"
ID_LENGTH: Final = "events_with_invalid_id_lengths"
SILENCED: Final = "silenced_events"


@dataclass(frozen=True, slots=True)
class Offence:
    """One fault of the event at `index`: `kind` is the key it is told under, `field` empty where silenced."""

    index: int
    kind: str
    field: str
    words: str


def find_offences(events: Sequence[Identification], min_id_length: int) -> list[Offence]:
    """Find what is wrong with events, in their order."""
    return [
        Offence(index, kind, field, words)
        for index, event in enumerate(events)
        for kind, field, words in _faults(event, min_id_length)
    ]


def refusal_of(offences: Sequence[Offence], named: Named) -> RequestRefusedError:
    """Make the 400 that names all offences, only the first of them, or none."""
    first = min(offences, key=lambda one: one.index)
    told = {"all": offences, "first": [first], "none": []}[named]
    return RequestRefusedError(400, "invalid events", reason=first.words, details=_by_kind(told))


def _by_kind(offences: Iterable[Offence]) -> dict[str, object]:
    by_field: dict[str, dict[str, list[int]]] = {}
    silenced: list[int] = []
    for one in offences:
        if one.kind == SILENCED:
            silenced.append(one.index)
        else:
            by_field.setdefault(one.kind, {}).setdefault(one.field, []).append(one.index)
    return {**by_field, **({SILENCED: silenced} if silenced else {})}


def _faults(event: Identification, min_id_length: int) -> Iterator[tuple[str, str, str]]:
    event_type = event.get("event_type")
    if event_type is None or event_type == "":
        yield MISSING, "event_type", "an event without event_type"
    yield from _wrong_kinds(event)
    for field, error in broken_rules(event, min_id_length):
        if not isinstance(error, MissingIdError):
            yield ID_LENGTH if isinstance(error, IdLengthError) else INVALID, field, error.words
        elif event_type != GROUP_IDENTIFY:  # which is about a group, and needs no user
            yield from ((MISSING, name, "an event without an id") for name in ("user_id", "device_id"))


def _wrong_kinds(event: Identification) -> Iterator[tuple[str, str, str]]:
    for field in ("event_type", "insert_id"):
        if not isinstance(event.get(field), str | None):
            yield INVALID, field, f"{field} must be a string"
    time = event.get("time")
    if time is not None and (isinstance(time, bool) or not isinstance(time, int) or time < 0):
        yield INVALID, "time", "time must be whole milliseconds"
    if not isinstance(event.get("event_properties"), dict | None):
        yield INVALID, "event_properties", "event_properties must be an object"
