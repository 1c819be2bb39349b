"""The summary as data for programs and as a table for people; both say the same."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from etl.wording import counted, one_line, per_second, share, size, span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.model import Summary, Tally

ROW_ENDS = ("accepted", "unchanged", "merged", "rejected")
COSTS = ("requests", "retries", "throttled", "bytes")
_OPEN = ("in_doubt", "uncounted")


def tally_dict(tally: Tally) -> dict[str, int]:
    """Give the counts under the summary's keys and in its order, what is left open last."""
    return {name: getattr(tally, name) for name in ("rows", *ROW_ENDS, *COSTS, *_OPEN)}


def summary_dict(summary: Summary) -> dict[str, object]:
    """Give the summary as one JSON object: counts of the whole job, `seconds` a float."""
    counts = tally_dict(summary.tally)
    left_open = {name: counts.pop(name) for name in _OPEN}
    return {
        **counts,
        "seconds": round(summary.seconds, 3),
        "resumed_rows": summary.resumed_rows,
        "status": summary.status,
        **left_open,
        "job": summary.job,
        "rejects_by_code": dict(by_count(summary.rejects_by_code)),
        "exit_code": summary.exit_code,
        "reason": summary.reason,
        "hint": summary.hint,
        "skipped_values": summary.skipped_values,
    }


def headline(summary: Summary) -> str:
    """Say the outcome in a few words, without the job's name."""
    if summary.status != "finished":
        return f"{summary.status}, exit code {summary.exit_code}" if summary.exit_code else summary.status
    rejected = summary.tally.rejected
    return f"finished, {counted(rejected, 'row')} rejected" if rejected else "finished"


def effort(summary: Summary) -> list[str]:
    """Say what it took, in phrases."""
    tally = summary.tally
    phrases = [counted(tally.requests, "request"), f"{size(tally.bytes)} sent"]
    phrases += [counted(tally.retries, "retry", "retries")] if tally.retries else []
    phrases += [f"{tally.throttled:,} throttled"] if tally.throttled else []
    phrases += [span(summary.seconds), per_second(tally.rows, summary.seconds)]
    return phrases


def why(summary: Summary) -> list[str]:
    """Say why it ended so and what to do, a line each; nothing where all went well."""
    return [*(summary.reason or "").splitlines(), *([summary.hint] if summary.hint else [])]


def notes(summary: Summary) -> list[str]:
    """Say what a reader of the numbers must know besides, a sentence each."""
    found = []
    if summary.resumed_rows:
        found.append(f"{summary.resumed_rows:,} of these rows had been committed by earlier runs.")
    if summary.tally.in_doubt:
        answers = counted(summary.tally.in_doubt, "answer")
        again = "; it was sent again" if summary.tally.retries else ""
        found.append(f"{answers} left open whether the request was applied{again}.")
    if summary.tally.uncounted:
        events = counted(summary.tally.uncounted, "event")
        found.append(f"The server counted {events} fewer than it was sent and took.")
    return found


def summary_text(summary: Summary, *, width: int) -> str:
    """Write the summary as lines of plain text, without a last newline.

    They are at most `width` columns wide where words and numbers allow.
    """
    lines = textwrap.wrap(f"{one_line(summary.job)}: {headline(summary)}", max(width, 20))
    lines += ["", *_table(summary), ""]
    lines += [*skipped_lines(summary.skipped_values)[1:], ""] if summary.skipped_values else []
    lines += _filled("  ", effort(summary), width)
    for note in notes(summary):
        lines += textwrap.wrap(note, max(width, 20), initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def _table(summary: Summary) -> list[str]:
    tally = summary.tally
    rows = [("rows", tally.rows, "")]
    for name in ROW_ENDS:
        count = getattr(tally, name)
        rows.append((f"  {name}", count, share(count, tally.rows)))
    rows += [(f"    {one_line(code)}", count, "") for code, count in by_count(summary.rejects_by_code)]
    wide = max(len(label) for label, _, _ in rows)
    deep = max(len(f"{count:,}") for _, count, _ in rows)
    return [f"  {label:<{wide}}  {count:>{deep},}  {part:>7}".rstrip() for label, count, part in rows]


def skipped_lines(skipped: Mapping[str, Mapping[str, int]]) -> list[str]:
    """List the values that were left out, by column and reason, after an empty line; nothing for none."""
    if not skipped:
        return []
    counts = [(one_line(f"{name}: {code}"), n) for name, by in skipped.items() for code, n in by_count(by)]
    wide = max(len(label) for label, _ in counts)
    deep = max(len(f"{count:,}") for _, count in counts)
    return [
        "",
        "  values left out of rows that went without them",
        *(f"    {label:<{wide}}  {count:>{deep},}" for label, count in counts),
    ]


def by_count(by_code: Mapping[str, int]) -> list[tuple[str, int]]:
    """List the codes of rejects, the most frequent first."""
    return sorted(by_code.items(), key=lambda item: (-item[1], item[0]))


def _filled(indent: str, phrases: list[str], width: int) -> list[str]:
    """Set phrases in lines; a phrase is never broken."""
    lines = [indent + phrases[0]]
    for number, phrase in enumerate(phrases[1:], 2):
        comma = number < len(phrases)
        if len(lines[-1]) + len(", ") + len(phrase) + comma > width:
            lines[-1] += ","
            lines.append(indent + phrase)
        else:
            lines[-1] += f", {phrase}"
    return lines
