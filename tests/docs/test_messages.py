"""The messages on the page of troubleshooting are those of the program, and figures those of their source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.docs.pages import DOCS, ROOT, table

_MESSAGE = re.compile(r"^### `(.+)`$", re.MULTILINE)


def texts_of_the_program() -> str:
    """All constant texts of the package, but for docstrings and the sandbox."""
    found: list[str] = []
    for path in sorted((ROOT / "etl").rglob("*.py")):
        if "sandbox" not in path.parts:
            found += _texts(ast.parse(path.read_text(encoding="utf-8")))
    return "\n".join(found)


def _texts(tree: ast.AST) -> Iterator[str]:
    documented = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documented:
            yield node.value


def messages() -> list[str]:
    return _MESSAGE.findall((DOCS / "troubleshooting.md").read_text(encoding="utf-8"))


def test_messages_are_those_of_the_program() -> None:
    texts, told = texts_of_the_program(), messages()
    assert len(told) > 30
    assert "Find the words of your message" not in texts
    parts = [part.strip(" :;,") for message in told for part in message.split("…")]
    assert [part for part in parts if part not in texts] == []


def test_hours_of_a_migration_follow_from_the_rate() -> None:
    for rate, million, fifty in table(DOCS / "how-to" / "migration.md", "rate, users a second"):
        users_a_second = int(rate.split(" ")[0].replace(",", ""))
        assert (million, fifty) == (
            in_minutes(1_000_000 / users_a_second),
            in_minutes(50_000_000 / users_a_second),
        )


def in_minutes(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def test_figures_beside_other_programs_are_those_that_were_measured() -> None:
    told = (DOCS / "alternatives.md").read_text(encoding="utf-8")
    measured = (DOCS / "performance.md").read_text(encoding="utf-8")
    figures = set(re.findall(r"\b\d{1,3},\d{3}\b|\b\d+ MB\b|\b\d+\.\d+\.\d+\b", told)) - {"1,000"}
    assert len(figures) > 6
    assert {figure for figure in figures if figure not in measured} == set()
