"""What a run would do, as text for people and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from etl.cli.console import show_json, show_lines

if TYPE_CHECKING:
    from etl.pipeline import Changed, Forecast
    from etl.pipeline.changed import Change


def show_plan(found: Forecast, *, as_json: bool) -> None:
    """Print a plan on stdout."""
    if as_json:
        show_json(plan_dict(found))
    else:
        show_lines(_lines(found))


def plan_page_of(found: Forecast) -> str:
    """A plan as a page, without values of any user."""
    from etl.amplitude import TRANSPORTS
    from etl.listeners.plan_page import plan_page

    changes = found.changes
    known = changes is not None and changes.changed + changes.unchanged > 0
    return plan_page(
        job=found.job,
        endpoint=found.endpoint,
        files=found.files,
        tally=found.tally,
        seconds=found.seconds,
        compressed=TRANSPORTS[found.transport].gzipped,
        rejects_by_code=found.rejects_by_code,
        skipped_values=found.skipped_values,
        warnings=found.warnings,
        users=(changes.new, changes.changed, changes.unchanged) if known and changes else None,
        changed={name: c.changed for name, c in changes.by_property.items()} if known and changes else {},
    )


def plan_dict(found: Forecast) -> dict[str, object]:
    """A plan as plain data."""
    tally = found.tally
    return {
        "job": found.job,
        "endpoint": found.endpoint,
        "transport": found.transport,
        "files": found.files,
        "rows": tally.rows,
        "accepted": tally.accepted,
        "unchanged": tally.unchanged,
        "merged": tally.merged,
        "rejected": tally.rejected,
        "requests": tally.requests,
        "bytes": tally.bytes,
        "seconds": round(found.seconds, 3),
        "rejects_by_code": dict(found.rejects_by_code),
        "skipped_values": found.skipped_values,
        "users": found.users,
        "changes": _changes_dict(found.changes),
        "warnings": [{"code": warning.code, "message": warning.message} for warning in found.warnings],
    }


def _lines(found: Forecast) -> list[str]:
    from etl.amplitude import TRANSPORTS
    from etl.listeners.summary import skipped_lines
    from etl.wording import size, span

    tally = found.tally
    compressed = "  before compression" if TRANSPORTS[found.transport].gzipped else ""
    lines = [
        f"{found.job}: {found.files} file{'s' * (found.files != 1)} to {found.endpoint}",
        "",
        f"  rows           {tally.rows:>13,}",
        f"    to be sent   {tally.accepted:>13,}",
        f"    unchanged    {tally.unchanged:>13,}",
        f"    merged       {tally.merged:>13,}",
        f"    rejected     {tally.rejected:>13,}",
        "",
        f"  requests       {tally.requests:>13,}",
        f"  bytes          {size(tally.bytes):>13}{compressed}",
        f"  time           {span(found.seconds):>13}  at the given rate",
    ]
    lines += ["", *_users_lines(found.changes, found.users), *_changes_lines(found.changes)]
    for code, count in found.rejects_by_code.most_common():
        lines += ["", f"  {code}: {count:,}"]
        lines += [f"    {r.source} row {r.row:,}: {r.reason}" for r in found.examples[code]]
    lines += skipped_lines(found.skipped_values)
    lines += [""] * bool(found.warnings) + [f"  warning: {w.message}" for w in found.warnings]
    return lines


def _changes_dict(changes: Changed | None) -> dict[str, object] | None:
    if changes is None:
        return None
    return {
        "new": changes.new,
        "changed": changes.changed,
        "unchanged": changes.unchanged,
        "by_property": {
            name: {
                "changed": change.changed,
                "new": change.new,
                "examples": [{"user": e.user, "old": "unknown", "new": e.new} for e in change.examples],
            }
            for name, change in changes.by_property.items()
        },
    }


def _users_lines(changes: Changed | None, users: int) -> Iterator[str]:
    """What becomes of the users; a first night has nothing to compare with."""
    if changes is None or changes.new == users:
        yield f"  users          {users:>13,}"
        return
    yield f"  users new      {changes.new:>13,}"
    yield f"    changed      {changes.changed:>13,}"
    yield f"    unchanged    {changes.unchanged:>13,}"


def _changes_lines(changes: Changed | None) -> Iterator[str]:
    """The properties that change for known users."""
    for name, change in changes.by_property.items() if changes else ():
        if change.changed:
            yield from _change_lines(name, change)


def _change_lines(name: str, change: Change) -> Iterator[str]:
    import orjson

    yield ""
    yield f"  {name}: {change.changed:,} changed"
    for example in change.examples:
        yield f"    {example.user}: unknown -> {orjson.dumps(example.new).decode()}"
