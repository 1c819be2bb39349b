"""The table that `make soak` ends with: law, cases tried, violations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Proof:
    """Cases tried and violations found, gathered in a file from all the processes that test."""

    path: Path

    def add(self, law: str, cases: int, violations: Sequence[str] = ()) -> None:
        """Count cases of a law, and what broke it."""
        with self.path.open("a") as file:
            file.write(json.dumps([law, cases, len(violations)]) + "\n")

    def table(self) -> list[str]:
        """A heading and a line a law; empty if nothing was tried."""
        if not self.path.exists():
            return []
        totals: dict[str, list[int]] = {}
        for line in self.path.read_text().splitlines():
            law, cases, violations = json.loads(line)
            total = totals.setdefault(law, [0, 0])
            total[0] += cases
            total[1] += violations
        wide = max(map(len, totals))
        heading = f"{'law':<{wide}}  {'cases':>9}  {'violations':>10}"
        return [heading, *(f"{law:<{wide}}  {n:>9,}  {bad:>10,}" for law, (n, bad) in sorted(totals.items()))]
