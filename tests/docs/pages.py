"""The pages of the project, and the fenced blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
# Those whose examples are run from top to bottom, each page in a folder of its own.
_PLAYED_DOCS = (
    "running",
    "library",
    "messy-exports",
    "plan",
    "verify",
    "probe",
    "tutorial",
    "how-to/undo",
    "how-to/counters",
    "how-to/migration",
)
PLAYED = (README, *(DOCS / f"{name}.md" for name in _PLAYED_DOCS))

_FENCE = re.compile(r"^(?P<mark>`{3,})(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=mark)$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: `line` is that of its first line of text, `note` what follows the language."""

    page: Path
    line: int
    language: str
    note: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every Markdown page of the project; not those of what is installed or built in its folder."""
    found = ROOT.rglob("*.md")
    return sorted(
        page
        for page in found
        if not any(part.startswith(".") or part in {"build", "dist"} for part in page.relative_to(ROOT).parts)
    )


def user_pages() -> list[Path]:
    """The pages for those who use the command."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """The page's fenced blocks, in order; of these languages, or all."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        language, _, note = match["info"].strip().partition(" ")
        if not languages or language in languages:
            yield Block(
                page, text.count("\n", 0, match.start("text")) + 1, language, note.strip(), match["text"]
            )


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def table(page: Path, first_heading: str) -> list[list[str]]:
    """The rows of the one table whose first column is headed so, as cells without backticks."""
    lines = page.read_text(encoding="utf-8").splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith(f"| {first_heading} |")]
    assert len(heads) == 1, f"{page.name} has {len(heads)} tables headed {first_heading!r}"
    rows = []
    for line in lines[heads[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows
