"""Every link from page to page leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, pages, prose
from tests.examples import each_row

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def links(page: Path) -> list[str]:
    return [link for link in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """The anchors that the usual renderers give to a page's headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(prose(page))
    }


@each_row("page", pages())
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_every_document_is_in_the_list() -> None:
    listed = {link for link in links(DOCS / "index.md") if not link.startswith("..")}
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"index.md"}


def test_links_are_found() -> None:
    assert len(links(ROOT / "README.md")) > 5


_PAGES_THAT_NAME_FILES = ("ARCHITECTURE.md", "RELIABILITY.md", "docs/glossary.md")
# A module or package below `etl`, such as `sender/pause`, `tally.py` or `discovery.READERS`.
_MODULE = re.compile(r"`(?:etl/)?((?:[a-z_]+/)+[a-z_]*|[a-z_]+\.py)(?:\.py)?(?:\.[A-Za-z_]+)?`")
_TEST = re.compile(r"(?<![\w/])((?:tests/[\w/]*)?test_\w+)(?:\.py)?")


@pytest.mark.parametrize("page", _PAGES_THAT_NAME_FILES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for found in _TEST.findall(text):
        there = (ROOT / f"{found}.py").exists() if "/" in found else found in tests
        assert there, f"{page} names {found}"
    for found in _MODULE.findall(text):
        if found.startswith("test_"):
            continue
        homes = (ROOT / "etl" / found, ROOT / found, ROOT / "etl" / f"{found}.py", ROOT / f"{found}.py")
        assert any(home.exists() for home in homes), f"{page} names {found}"
