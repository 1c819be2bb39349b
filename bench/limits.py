"""What a server with limits met: from the sandbox's journal to shares, rates and bursts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the server met it: `at` in seconds since the first."""

    at: float
    identifications: int
    admitted: bool


@dataclass(frozen=True, slots=True)
class Control:
    """How well a limit was found, from `since` seconds on: shares of what could go in, and of requests."""

    admitted_share: float
    refused_share: float
    seconds: float


def requests(journal: str) -> list[Request]:
    """Read a journal of the sandbox, in the order in which requests came."""
    entries = sorted((json.loads(line) for line in journal.splitlines()), key=lambda entry: entry["received"])
    if not entries:
        return []
    first = entries[0]["received"]
    return [
        Request(entry["received"] - first, entry["identifications"], entry["status"] == 200)
        for entry in entries
    ]


def control(met: Sequence[Request], limit: float, *, since: float, until: float) -> Control:
    """Judge the seconds from `since` to `until` against a limit in identifications a second."""
    judged = [request for request in met if since <= request.at < until]
    admitted = sum(request.identifications for request in judged if request.admitted)
    refused = sum(not request.admitted for request in judged)
    return Control(admitted / (limit * (until - since)), refused / max(1, len(judged)), until - since)


def rates(met: Sequence[Request], window: float) -> list[float]:
    """From each request to the first that comes `window` seconds later or more: identifications a second.

    Measured between requests, so that it doesn't matter which of them a window's ends just miss.
    """
    sums = [0]
    for request in met:
        sums.append(sums[-1] + request.identifications)
    found, end = [], 0
    for start, request in enumerate(met):
        while end < len(met) and met[end].at - request.at < window:
            end += 1
        if end == len(met):
            break
        found.append((sums[end] - sums[start]) / (met[end].at - request.at))
    return found


def burst(met: Sequence[Request], window: float = 1.0) -> int:
    """The most identifications that came within any `window` seconds."""
    most = held = start = 0
    for end, request in enumerate(met):
        held += request.identifications
        while request.at - met[start].at >= window:
            held -= met[start].identifications
            start += 1
        most = max(most, held, met[end].identifications)
    return most


def by_second(met: Sequence[Request]) -> list[tuple[int, int]]:
    """For each second: identifications offered, and admitted."""
    seconds = [[0, 0] for _ in range(int(met[-1].at) + 1)] if met else []
    for request in met:
        seconds[int(request.at)][0] += request.identifications
        seconds[int(request.at)][1] += request.identifications * request.admitted
    return [(offered, admitted) for offered, admitted in seconds]
