"""What a run would do, as text for people and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from etl.cli.invocation import show

if TYPE_CHECKING:
    from etl.pipeline import Changed, Forecast
    from etl.pipeline.changed import Change


def show_plan(found: Forecast, *, as_json: bool) -> None:
    """Print a plan on stdout."""
    if as_json:
        import orjson

        show(orjson.dumps(plan_dict(found)))
    else:
        show(_text(found))


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
        "users": found.users,
        "changes": _changes_dict(found.changes),
        "warnings": [{"code": warning.code, "message": warning.message} for warning in found.warnings],
    }


def _text(found: Forecast) -> str:
    from etl.amplitude import TRANSPORTS
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
    lines += [""] * bool(found.warnings) + [f"  warning: {w.message}" for w in found.warnings]
    return "\n".join(lines)


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
