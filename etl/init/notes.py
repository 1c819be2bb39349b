"""What a user should see at once, before reading the job file: one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.init.id_remarks import id_rejects
from etl.init.identity import is_mail
from etl.init.quoting import spec_text
from etl.init.wording import shown
from etl.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from etl.init.entries import Entry
    from etl.init.identity import Identity
    from etl.init.survey import Survey


def notes_of(found: Survey, identity: Identity, entries: Sequence[Entry]) -> Iterator[str]:
    """Remarks on the whole proposal."""
    rows, columns = counted(found.rows, "row"), counted(len(found.columns), "column")
    yield f"read {rows}, {columns}; {identity.field}: {spec_text(identity.spec)}"
    if identity.reason == "last resort":
        yield f"no column looks like an id: {shown(identity.facts.name)} is a guess, check it"
    yield from (sentence.rstrip(".") for sentence in id_rejects(identity))
    yield from unreadable(found)
    sent = [shown(one.column) for one in entries if one.personal and one.plain]
    if is_mail(identity.facts):
        sent.insert(0, f"{shown(identity.facts.name)} (as the id)")
    if sent:
        yield f"personal data that would be sent as it is: {', '.join(sent)}"
    hidden = [shown(one.column) for one in entries if one.personal and not one.plain]
    if hidden:
        yield f"personal data that is hashed or left out: {', '.join(hidden)}"
    left = [
        shown(one.column)
        for one in entries
        if not one.personal and not any(line.active for line in one.lines)
    ]
    if left:
        yield f"left out: {', '.join(left)} (the job file says why)"


def unreadable(found: Survey) -> Iterator[str]:
    """Rows that the reader turns away."""
    if not found.first_unreadable:
        return
    source, row = found.first_unreadable
    codes = ", ".join(f"{count:,} {code}" for code, count in sorted(found.unreadable.items()))
    total = counted(found.unreadable.total(), "row")
    yield f"{total} can't be read and will be rejected ({codes}; the first is row {row:,} of {shown(source)})"
