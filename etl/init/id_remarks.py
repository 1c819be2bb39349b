"""What a user should know of the identity that was chosen: why, at what price, and what else it could be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etl.amplitude import MAX_ID_LENGTH, MIN_ID_LENGTH
from etl.init.identity import is_mail
from etl.init.quoting import spec_text
from etl.init.wording import shown
from etl.mapper.mangled import REMEDY
from etl.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.init.id_facts import IdFacts
    from etl.init.identity import Identity, Reason

_WHY: Final[dict[Reason, str]] = {
    "person": "its name says that it is an id of users",
    "id": "its name says that it is an id, and nearly every row has its own",
    "mail": "nothing here looks more like a lasting id of users",
    "counter": "its name says that it is an id, though it does no more than count the rows",
    "unique": "nearly every row has a value of its own",
    "gaps": "its name says that it is an id of users, though many rows have none",
    "device": "it is the only id here, though of a device: with an id of users these rows would do more",
    "last resort": "some column must be. None looks like an id, so check this guess before you send anything",
}
_ROWS_COUNTED: Final = "Make sure that the next export won't give the same numbers to other people."
_MANGLED: Final = (
    "Ids can't be changed later, so mangled ones aren't sent: export the ids as text. If they are meant so, "
    "write {column: ..., ids: {mangled: keep}}."
)
_MAIL: Final = (
    "Personal data: who uses Amplitude sees the ids, here mail addresses, and ids can't be changed later."
)
_BYTES: Final = (
    "Its values are bytes: hex writes them as hexadecimal digits. Say uuid in place of hex if your other "
    "data has them as UUIDs, such as 0f8fad5b-d9cb-469f-a165-70867728950e."
)


def id_remarks(identity: Identity) -> list[str]:
    """Sentences for the comment above the id."""
    facts = identity.facts
    remarks = [f"{shown(facts.name)} was taken: {_WHY[identity.reason]}."]
    if identity.reason == "counter":
        remarks.append(_ROWS_COUNTED)
    counters = [shown(spec.column or "") for spec, reason in identity.others if reason == "counter"]
    if counters:
        remarks.append(f"{counters[0]} only counts the rows of this file: if it is a lasting id, take that.")
    if is_mail(facts):
        remarks.append(_MAIL)
    remarks += [_BYTES] * facts.bytes
    remarks += _prefix_remarks(identity)
    if _repeats(facts.ids):
        remarks.append(_repeated(identity))
    remarks += id_rejects(identity)
    return [*remarks, _MANGLED] if facts.ids.mangled else remarks


def id_rejects(identity: Identity) -> list[str]:
    """A sentence for each reason for which rows will be rejects."""
    rows = identity.facts.rows
    return [
        f"{count:,} of {counted(rows, 'row')} {'has' if count == 1 else 'have'} {_lacks(code, identity)}: "
        f"{'it' if count == 1 else 'they'} will be {'a reject' if count == 1 else 'rejects'}."
        for code, count in sorted(identity.rejects.items())
    ]


def other_ids(identity: Identity) -> list[str]:
    """Lines that can take the place of the id's."""
    return [f"{identity.field}: {spec_text(spec)}" for spec, _ in identity.others]


def _lacks(code: str, identity: Identity) -> str:
    known = {
        "missing_id": "no id",
        "mangled_id": f"an id that was mangled on its way ({_mangled(identity)})",
        "refused_id": f"an id that stands for no user ({_words(identity)})",
        "short_id": f"an id of fewer than {MIN_ID_LENGTH} characters",
        "long_id": f"an id of more than {MAX_ID_LENGTH:,} characters",
    }
    return known.get(code, f"a value that can't be an id ({code})")


def _mangled(identity: Identity) -> str:
    """How many rows are mangled in which way, the commonest first."""
    ids = identity.facts.ids
    ways = ids.mangled.most_common()
    return "; ".join(
        f"{count:,}: {says.removesuffix(REMEDY).replace('{}', ids.examples[says])}" for says, count in ways
    )


def _words(identity: Identity) -> str:
    return ", ".join(sorted(shown(word) for word in identity.facts.ids.refused)[:5])


def _prefix_remarks(identity: Identity) -> Iterator[str]:
    if not any(step.verb == "prefix" for step in identity.spec.transform):
        return
    ids = identity.facts.ids
    short = counted(ids.faults["short_id"], "row has an id", "rows have an id")
    yield f"{short} of fewer than {MIN_ID_LENGTH} characters, which Amplitude refuses: hence the prefix."
    yield "Everything else that sends data of these users to Amplitude must use the same prefix."
    if ids.refused:
        words = counted(ids.refused.total(), "row has an id", "rows have ids")
        yield (
            f"{words} that may stand for no user ({_words(identity)}): with the prefix, all rows of a "
            "word become one user. Take them out of the source first."
        )


def _repeats(ids: IdFacts) -> bool:
    """Whether ids come more than once; an estimate of their number must say so clearly."""
    return ids.distinct.count < ids.usable * (1.0 if ids.distinct.exact else 0.97)


def _repeated(identity: Identity) -> str:
    distinct = identity.facts.ids.distinct
    number = f"{'' if distinct.exact else 'about '}{distinct.count:,}"
    return (
        f"{counted(identity.facts.ids.usable, 'row has', 'rows have')} {number} different ids: "
        "where a user has several rows, the last value of each property stays."
    )
