"""The table that `make soak` ends with: law, cases tried, violations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Proof:
    """Cases tried and violations found, by law."""

    cases: dict[str, int] = field(default_factory=dict)
    violations: dict[str, list[str]] = field(default_factory=dict)

    def add(self, law: str, cases: int, violations: Sequence[str] = ()) -> None:
        """Count cases of a law, and what broke it."""
        self.cases[law] = self.cases.get(law, 0) + cases
        self.violations.setdefault(law, []).extend(violations)

    def table(self) -> list[str]:
        """A line a law."""
        wide = max((len(law) for law in self.cases), default=3)
        lines = [f"{'law':<{wide}}  {'cases':>9}  {'violations':>10}"]
        for law in sorted(self.cases):
            lines.append(f"{law:<{wide}}  {self.cases[law]:>9,}  {len(self.violations[law]):>10,}")
        return lines


PROOF = Proof()
