"""Gathers what the soak tests proved, and prints it at the end."""

from __future__ import annotations

import pytest

from tests.soak.proof import PROOF, Proof


@pytest.fixture
def proof() -> Proof:
    return PROOF


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PROOF.cases:
        terminalreporter.section("the laws, and what was tried against them")
        for line in PROOF.table():
            terminalreporter.write_line(line)
