"""What a run would do as one HTML page, for `--dry-run`: counts, and no values of any user."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from etl.listeners.markup import Html, tag
from etl.listeners.page import document, facts_section, rejects_section, skipped_section, warnings_section
from etl.wording import address, counted, size, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from etl.model import Tally, Warned

_USERS = ("new", "changed", "unchanged")


def plan_page(
    *,
    job: str,
    endpoint: str,
    files: int,
    tally: Tally,
    seconds: float,
    compressed: bool,
    rejects_by_code: Mapping[str, int],
    skipped_values: Mapping[str, Mapping[str, int]],
    warnings: Iterable[Warned],
    users: tuple[int, int, int] | None,
    changed: Mapping[str, int],
) -> str:
    """Write the page. `seconds` are at the given rate, `users` new, changed and unchanged (or None)."""
    title = tag("div", tag("h1", job), tag("span", "dry run: nothing was sent", class_="status fair"))
    header = tag("header", title, tag("p", f"{counted(files, 'file')} to {address(endpoint)}"))
    parts = [
        _rows(tally),
        facts_section("What it would take", _effort(tally, seconds, compressed=compressed)),
        _users(users, changed),
        rejects_section(rejects_by_code),
        skipped_section(skipped_values),
        warnings_section(Counter(warnings)),
    ]
    return document(f"{job}: dry run", header, *[part for part in parts if part])


def _rows(tally: Tally) -> Html:
    meanings = {"to be sent": tally.accepted, "unchanged": tally.unchanged, "merged": tally.merged}
    rows = [_row(name, count) for name, count in (meanings | {"rejected": tally.rejected}).items()]
    total = tag("div", f"{tally.rows:,}", class_="total")
    return tag("section", total, tag("div", "rows read", class_="soft"), tag("table", *rows))


def _row(name: str, count: int) -> Html:
    return tag("tr", tag("td", name), tag("td", f"{count:,}"))


def _effort(tally: Tally, seconds: float, *, compressed: bool) -> dict[str, str]:
    weight = "bytes before compression" if compressed else "bytes"
    return {
        "requests": f"{tally.requests:,}",
        weight: size(tally.bytes),
        "time at the given rate": span(seconds),
    }


def _users(users: tuple[int, int, int] | None, changed: Mapping[str, int]) -> Html:
    if users is None:
        return Html()
    rows = [_row(f"users {name}", count) for name, count in zip(_USERS, users, strict=True)]
    rows += [_row(f"{name} changed", count) for name, count in changed.items() if count]
    return tag("section", tag("h2", "Against the last run"), tag("table", *rows))
