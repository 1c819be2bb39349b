"""What an event says to people, in a sentence or in phrases; the terminal and the log use the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.wording import address, counted, one_line, share, size, span

if TYPE_CHECKING:
    from etl.model import Paused, Recovered, Started, Tally


def load(event: Started) -> str:
    """Say how much there is to do, as far as the source can tell."""
    text = counted(event.files, "file")
    if event.total_rows is not None:
        text += f", {counted(event.total_rows, 'row')}"
    if event.total_bytes is not None:
        text += f", {size(event.total_bytes)}"
    return text


def started(event: Started) -> str:
    """Say where to, how much, and where an unfinished run is taken up."""
    text = f"to {address(event.endpoint)}: {load(event)}"
    if event.resumed.rows:
        text += f"; {counted(event.resumed.rows, 'row')} committed before"
    return text


def done(tally: Tally, total_rows: int | None) -> str:
    """Say how far the rows are."""
    if total_rows is None:
        return counted(tally.rows, "row")
    return f"{tally.rows:,} of {counted(total_rows, 'row')}"


def part(tally: Tally, total_rows: int | None) -> str | None:
    """Say the same in percent; None where the source can't tell its rows."""
    return None if total_rows is None else share(tally.rows, total_rows)


def troubles(tally: Tally) -> list[str]:
    """Say what went otherwise than hoped, a phrase each; empty on a good day."""
    phrases = [f"{tally.rejected:,} rejected"] if tally.rejected else []
    phrases += [counted(tally.retries, "retry", "retries")] if tally.retries else []
    phrases += [f"{tally.throttled:,} throttled"] if tally.throttled else []
    return phrases


def pause_phrases(event: Paused, seconds_left: float) -> list[str]:
    """Say why nothing moves, for how long already, until when, and when that is the end; a phrase each.

    `seconds_left` are those of the pause.
    """
    phrases = [one_line(event.reason)]
    phrases += [f"attempt {event.attempt:,}"] if event.attempt else []
    phrases.append(f"next try in {span(seconds_left)}" if seconds_left > 0 else "trying again")
    phrases += [f"away for {span(event.outage_seconds)}"] if event.outage_seconds >= 1 else []
    if event.seconds_left is not None:
        phrases.append(f"gives up in {span(event.seconds_left - event.seconds + max(seconds_left, 0.0))}")
    return phrases


def recovered(event: Recovered) -> str:
    """Say that it goes on."""
    return f"the destination takes requests again after {span(event.seconds)}"
