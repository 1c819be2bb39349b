"""The summary of a run: the same facts as JSON for programs and as text for people."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from ..tally import ROW_ENDS, Tally
from ..text import counted, filled, in_table, one_line, per_second, share, size, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..run_events import Summary, Timing

_COSTS: Final = ("requests", "retries", "throttled", "bytes")
_COUNTS: Final = ("rows", *ROW_ENDS, *_COSTS, "in_doubt", "uncounted")
# What the JSON has under the names of the summary.
_LEADING: Final = ("resumed_rows", "status")
_ENDING: Final = ("exit_code", "reason", "hint", "skipped_values")
_MOST_REASONS: Final = 20
PERCENTILES: Final = ("p50", "p95", "p99")
# What a slot waits for, and what makes it wait for rows.
WAITS: Final = {
    "rate": "the rate limit",
    "request": "answers",
    "idle": "rows to send",
    "pause": "pauses after a 429 or an outage",
    "user": "earlier rows of the same users",
    "commit": "the checkpoint",
}
STAGES: Final = {
    "source": "reading",
    "map": "mapping",
    "diff": "comparing with the snapshot",
    "encode": "encoding",
}


# --- as data ---------------------------------------------------------------------------------------------


def tally_dict(tally: Tally) -> dict[str, int]:
    """Return the counts under the summary's keys and in its order."""
    return {name: getattr(tally, name) for name in _COUNTS}


def seconds_by(timing: Timing | None) -> dict[str, float]:
    """Return the seconds by stage and by wait; empty if the run never began to send."""
    return {} if timing is None else {name: getattr(timing, name) for name in (*STAGES, *WAITS)}


def summary_dict(summary: Summary) -> dict[str, object]:
    """Return the summary as one JSON object: counts of the whole job, seconds as floats."""
    tally = tally_dict(summary.tally)
    doubts = {name: tally.pop(name) for name in ("in_doubt", "uncounted")}
    return {
        **tally,
        "seconds": round(summary.seconds, 3),
        **{name: getattr(summary, name) for name in _LEADING},
        **doubts,
        "job": summary.job,
        "rejects_by_code": dict(by_count(summary.rejects_by_code)),
        **{name: getattr(summary, name) for name in _ENDING},
        "seconds_by": {name: round(value, 3) for name, value in seconds_by(summary.timing).items()},
        "answer_seconds": answer_seconds(summary.timing),
        "time_spent": time_spent(summary.timing),
    }


def summary_from(data: Mapping[str, Any]) -> Summary:
    """Return the summary of such an object. Raises KeyError or TypeError.

    What it lacks, as one that an older propsync wrote may, has its default.
    """
    from ..run_events import Summary, Timing  # here, as `status` has no use for events

    timing, seconds = None, data["seconds_by"]
    if seconds:
        timing = Timing(**seconds, latency=tuple(data["answer_seconds"].values()))
    names = ("job", "seconds", "rejects_by_code", *_LEADING, *_ENDING)
    same, counts = ({name: data[name] for name in some if name in data} for some in (names, _COUNTS))
    return Summary(tally=Tally(**counts), timing=timing, **same)


def answer_seconds(timing: Timing | None) -> dict[str, float]:
    """Return the percentiles of the time to an answer, in seconds; empty if there was none."""
    latency = () if timing is None else timing.latency
    return {name: round(value, 6) for name, value in zip(PERCENTILES, latency, strict=False)}


def by_count(by_code: Mapping[str, int]) -> list[tuple[str, int]]:
    """List the codes of rejects, the most frequent first."""
    return sorted(by_code.items(), key=lambda item: (-item[1], item[0]))


# --- in words --------------------------------------------------------------------------------------------


def reason_lines(reasons: Sequence[Mapping[str, Any]], rejected: int) -> Iterator[str]:
    """Write the most frequent reasons of rejects, which have the column and the value; empty without any."""
    width = len(f"{rejected:,}")
    for number, one in enumerate(reasons[:_MOST_REASONS]):
        rejected -= one["count"]
        yield from ["", "  rejects by column and value:"] * (number == 0)
        yield f"    {one['count']:>{width},}  {one['reason']}"
    if reasons and rejected > 0:
        yield f"    {rejected:>{width},}  others: see `status --json`, or `--rejects FILE.csv` of `run`"


def headline(summary: Summary) -> str:
    """Write the outcome in a few words, without the job's name."""
    if summary.status not in {"finished", "limited"}:
        return f"{summary.status}, exit code {summary.exit_code}" if summary.exit_code else summary.status
    outcome = "finished" if summary.status == "finished" else "stopped at --limit"
    rejected = summary.tally.rejected
    return f"{outcome}, {counted(rejected, 'row')} rejected" if rejected else outcome


def row_phrases(tally: Tally) -> list[str]:
    """Write how many rows there are, and what became of them, a phrase each."""
    return [counted(tally.rows, "row"), *(f"{getattr(tally, end):,} {end}" for end in ROW_ENDS)]


def effort(summary: Summary) -> list[str]:
    """Write what the run took, in phrases."""
    tally = summary.tally
    phrases = [counted(tally.requests, "request"), f"{size(tally.bytes)} sent", *trouble_phrases(tally)]
    return [*phrases, span(summary.seconds), per_second(tally.rows, summary.seconds)]


def trouble_phrases(tally: Tally) -> list[str]:
    """Write how many requests were sent again or throttled, a phrase each; empty on a good day."""
    phrases = [counted(tally.retries, "retry", "retries")] if tally.retries else []
    return phrases + ([f"{tally.throttled:,} throttled"] if tally.throttled else [])


def time_spent(timing: Timing | None) -> str | None:
    """Write where the time of the run went, the largest share first, such as `61 % waiting for answers`.

    The shares are of the time of sending; below 1 % they are left out. None if nothing was sent.
    """
    if timing is None:
        return None
    waits = {name: getattr(timing, name) for name in WAITS}
    whole = sum(waits.values())
    ordered = [(name, s) for name, s in sorted(waits.items(), key=lambda item: -item[1]) if s >= whole / 100]
    if whole <= 0:
        return None
    phrases = [f"{100 * seconds / whole:.0f} % for {WAITS[name]}" for name, seconds in ordered]
    phrases[0] = phrases[0].replace("for", "waiting for", 1)
    busy = {stage: getattr(timing, stage) for stage in STAGES}
    if ordered[0][0] == "idle" and any(busy.values()):
        phrases[0] += f" (mostly {STAGES[max(busy, key=busy.__getitem__)]})"
    elif ordered[0][0] == "request" and timing.latency:
        half, most = answer_time(timing.latency[0]), answer_time(timing.latency[-1])
        phrases[0] += f" (half within {half}, 99 % within {most})"
    return ", ".join(phrases)


def answer_time(seconds: float) -> str:
    """Write the time to an answer, below a second in milliseconds."""
    return f"{1000 * seconds:,.0f} ms" if seconds < 0.9995 else span(seconds)


def notes(summary: Summary) -> list[str]:
    """Write what a reader of the numbers must know besides, a sentence each."""
    spent = time_spent(summary.timing)
    found = [f"Time: {spent}."] if spent else []
    if summary.resumed_rows:
        found.append(f"{summary.resumed_rows:,} of these rows had been committed by earlier runs.")
    if summary.tally.in_doubt:
        answers = counted(summary.tally.in_doubt, "answer")
        again = "; it was sent again" if summary.tally.retries else ""
        found.append(f"{answers} left open whether the request was applied{again}.")
    if summary.tally.uncounted:
        events = counted(summary.tally.uncounted, "event")
        found.append(f"The server said it took {events} that it did not count.")
    return found


def summary_text(summary: Summary, *, width: int) -> str:
    """Write the summary as lines of plain text, without a last newline.

    They are at most `width` columns wide where words and numbers allow.
    """
    tally = summary.tally
    table = [("rows", tally.rows, "")]
    for name in ROW_ENDS:
        count = getattr(tally, name)
        table.append((f"  {name}", count, share(count, tally.rows)))
    table += [(f"    {one_line(code)}", count, "") for code, count in by_count(summary.rejects_by_code)]
    lines = textwrap.wrap(f"{one_line(summary.job)}: {headline(summary)}", max(width, 20))
    lines += ["", *aligned(table), *skipped_lines(summary.skipped_values), ""]
    *phrases, last = effort(summary)
    lines += [f"  {' '.join(line)}" for line in filled([*(f"{p}," for p in phrases), last], width - 2)]
    for note in notes(summary):
        lines += textwrap.wrap(note, max(width, 20), initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def aligned(rows: Iterable[tuple[str, int, str]]) -> list[str]:
    """Set labels, counts and shares below each other."""
    cells = [(label, f"{count:,}", f"{part:>7}") for label, count, part in rows]
    return [f"  {line}" for line in in_table(cells, right={1})]


def skipped_lines(skipped: Mapping[str, Mapping[str, int]]) -> list[str]:
    """List the values that were left out, by column and reason, after an empty line; nothing for none."""
    if not skipped:
        return []
    rows = [(one_line(f"{name}: {code}"), n) for name, by in skipped.items() for code, n in by_count(by)]
    table = aligned((f"  {label}", count, "") for label, count in rows)
    return ["", "  values left out of rows that went without them", *table]
