"""A run as one HTML page that needs nothing but itself: no network, no script."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from etl.listeners import sentences
from etl.listeners.markup import Html, tag
from etl.listeners.stylesheet import STYLESHEET
from etl.listeners.summary import ROW_ENDS, by_count, headline, why
from etl.wording import address, counted, per_second, share, size, span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from etl.model import Started, Summary, Warned

BAR_WIDTH: Final = 1000
_THINNEST: Final = 4  # of BAR_WIDTH: one rejected row in a million must still be seen
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_MEANINGS: Final = {
    "accepted": "taken in by the destination",
    "unchanged": "no update needed",
    "merged": "sent together with another row of the same user",
    "rejected": "could not be sent; rejects.ndjson in the state folder has each with its reason",
}


@dataclass(frozen=True, slots=True)
class Account:
    """All that the page tells.

    `warnings` has how often each came; `pauses` are the spans, in seconds, in which the destination took
    nothing; `command` is what to run next if the run is unfinished.
    """

    summary: Summary
    started: Started | None
    began: datetime
    ended: datetime
    warnings: Mapping[Warned, int] = field(default_factory=dict)
    pauses: tuple[float, ...] = ()
    command: str | None = None

    @property
    def unsettled(self) -> int:
        """Rows that the source has and the run didn't come to, as far as is known."""
        total = self.started.total_rows if self.started and self.started.total_rows else 0
        return max(total - self.summary.tally.rows, 0) if self.summary.status != "finished" else 0


def page(account: Account) -> str:
    """Write the page."""
    title = f"{account.summary.job}: {headline(account.summary)}"
    return document(title, _header(account), *_parts(account))


def document(title: str, header: Html, *parts: Html) -> str:
    """Put a page together that needs nothing but itself."""
    head = tag(
        "head",
        Html('<meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>'),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", title),
        tag("style", Html(STYLESHEET)),
    )
    body = tag("body", header, tag("main", *parts), tag("footer", "Written by propsync."))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _parts(account: Account) -> list[Html]:
    summary = account.summary
    parts = [_end(account), _rows(account), rejects_section(summary.rejects_by_code)]
    parts += [skipped_section(summary.skipped_values)]
    parts += [_effort(account), warnings_section(account.warnings)]
    return [part for part in parts if part]


def _header(account: Account) -> Html:
    summary, started = account.summary, account.started
    status = tag("span", headline(summary), class_=f"status {_colour(summary)}")
    where = f"{summary.status} before the first row"
    if started:
        where = f"{sentences.load(started)} to {address(started.endpoint)}"
    when = f"{_moment(account.began)} to {_moment(account.ended)}"
    return tag("header", tag("div", tag("h1", summary.job), status), tag("p", where), tag("p", when))


def _colour(summary: Summary) -> str:
    if summary.status == "stopped":
        return "bad"
    return "fair" if summary.status == "interrupted" or summary.tally.rejected else "good"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()


def _end(account: Account) -> Html:
    """Why it ended so, what to do, and with what to go on; nothing where all went well."""
    summary, lines = account.summary, [tag("p", line) for line in why(account.summary)]
    if summary.status == "finished":
        return tag("aside", tag("h2", "Rows came back"), *lines) if lines else Html()
    kept = "What is committed is kept." if account.started else "Nothing was sent."
    command = tag("pre", tag("code", account.command)) if account.command else Html()
    then = tag("p", f"{kept} Then run:" if command else kept)
    return tag("aside", tag("h2", "This run is unfinished"), *lines, then, command)


def _rows(account: Account) -> Html:
    tally, resumed = account.summary.tally, account.summary.resumed_rows
    total = tag("div", f"{tally.rows:,}", class_="total")
    note = "rows committed" if account.summary.status != "finished" else "rows, every one accounted for"
    note += f"; {resumed:,} of them by earlier runs" if resumed else ""
    rows = [_row(end, getattr(tally, end), tally.rows, _MEANINGS[end]) for end in ROW_ENDS]
    if account.unsettled:
        rows.append(_row("open", account.unsettled, 0, "left for the next run", name="unsettled"))
    return tag("section", total, tag("div", note, class_="soft"), _bar(account), tag("table", *rows))


def _row(kind: str, count: int, whole: int, meaning: str, *, name: str | None = None) -> Html:
    swatch = tag("svg", tag("rect", class_=kind, width="100%", height="100%"), aria_hidden="true")
    cells = [tag("td", swatch, name or kind, tag("small", meaning)), tag("td", f"{count:,}")]
    return tag("tr", *cells, tag("td", share(count, whole) if whole else "", class_="soft"))


def _bar(account: Account) -> Html:
    tally = account.summary.tally
    counts = {end: getattr(tally, end) for end in ROW_ENDS} | {"open": account.unsettled}
    shapes, x = [], 0.0
    for kind, width in bar_widths(counts).items():
        shapes.append(tag("rect", class_=kind, x=round(x, 2), y=0, width=round(width, 2), height=26))
        x += width
    says = ", ".join(f"{kind} {count:,}" for kind, count in counts.items() if count)
    frame = {"viewBox": f"0 0 {BAR_WIDTH} 26", "preserveAspectRatio": "none", "role": "img"}
    return tag("svg", *shapes, **frame, aria_label=says or "no rows")


def bar_widths(counts: dict[str, int]) -> dict[str, float]:
    """Share BAR_WIDTH out: every part that isn't empty can be seen, and together they fill the bar."""
    parts = {kind: count for kind, count in counts.items() if count > 0}
    if not parts:
        return {"open": float(BAR_WIDTH)}
    free = BAR_WIDTH - _THINNEST * len(parts)
    whole = sum(parts.values())
    return {kind: _THINNEST + free * count / whole for kind, count in parts.items()}


def rejects_section(by_code: Mapping[str, int]) -> Html:
    """List the codes of rejects, the most frequent first; nothing where there are none."""
    if not by_code:
        return Html()
    head = tag("tr", tag("th", "code"), tag("th", "rows"), tag("th", "of rejects"))
    whole = sum(by_code.values())
    rows = [_reject_row(code, count, whole) for code, count in by_count(by_code)]
    return tag("section", tag("h2", "Rejects by code"), tag("table", head, *rows))


def _reject_row(code: str, count: int, whole: int) -> Html:
    part = tag("td", share(count, whole), class_="soft")
    return tag("tr", tag("td", tag("code", code)), tag("td", f"{count:,}"), part)


def skipped_section(skipped: Mapping[str, Mapping[str, int]]) -> Html:
    """List the values that were left out, by column and reason; nothing where there are none."""
    if not skipped:
        return Html()
    head = tag("tr", tag("th", "column"), tag("th", "reason"), tag("th", "values"))
    rows = [
        tag("tr", tag("td", column), tag("td", tag("code", code)), tag("td", f"{count:,}"))
        for column, by_reason in skipped.items()
        for code, count in by_count(by_reason)
    ]
    return tag("section", tag("h2", "Values left out"), tag("table", head, *rows))


def _effort(account: Account) -> Html:
    summary, pauses = account.summary, account.pauses
    tally = summary.tally
    return facts_section(
        "What it took",
        {
            "duration": span(summary.seconds),
            "speed": per_second(tally.rows, summary.seconds),
            "requests": f"{tally.requests:,}",
            "bytes sent": size(tally.bytes),
            "retries": f"{tally.retries:,}",
            "throttled": f"{tally.throttled:,}",
            "pauses": f"{len(pauses):,} ({span(sum(pauses))})" if pauses else "0",
            "answers in doubt": f"{tally.in_doubt:,}",
            "events not counted": f"{tally.uncounted:,}",
        },
    )


def facts_section(title: str, facts: Mapping[str, str]) -> Html:
    """Show numbers by their names."""
    entries = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    return tag("section", tag("h2", title), tag("dl", *entries))


def warnings_section(warnings: Mapping[Warned, int]) -> Html:
    """List warnings with how often each came; nothing where there are none."""
    if not warnings:
        return Html()
    items = [_warning(warned, times) for warned, times in warnings.items()]
    return tag("section", tag("h2", "Warnings"), tag("ul", *items))


def _warning(warned: Warned, times: int) -> Html:
    again = tag("span", f" ({counted(times, 'time')})", class_="soft") if times > 1 else Html()
    return tag("li", warned.message, again)
