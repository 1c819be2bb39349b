"""The built site: it has every page, no page asks another host for anything, and no link leads nowhere."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from etl.cli.app import propsync
from etl.job.spec import job_schema
from tests.docs.pages import DOCS, ROOT

pytestmark = pytest.mark.docs
SITE = ROOT / "build" / "site"
# What a browser loads by itself; `a` is followed by people only.
_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
_LOADING_LINKS = {
    "stylesheet",
    "preload",
    "modulepreload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "icon",
    "manifest",
}
_IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""")


class _Page(HTMLParser):
    """What a page loads, where its links lead, and which anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.classes: set[str] = set()
        self.paragraphs = ""
        self._in_paragraph = False
        self.feed(text)

    def handle_data(self, data: str) -> None:
        if self._in_paragraph:
            self.paragraphs += data

    def handle_endtag(self, tag: str) -> None:
        self._in_paragraph &= tag != "p"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_paragraph |= tag == "p"
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        self.classes.update(given.get("class", "").split())
        self.loaded += _IN_STYLES.findall(given.get("style", ""))
        if tag in _LOADED and given.get(_LOADED[tag]):
            self.loaded.append(given[_LOADED[tag]])
        elif tag == "link" and _LOADING_LINKS & set(given.get("rel", "").split()):
            self.loaded.append(given["href"])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


@cache
def pages() -> dict[Path, _Page]:
    assert SITE.is_dir(), "`make docs` builds the site"
    return {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(SITE.rglob("*.html"))}


def test_every_document_is_a_page() -> None:
    for page in DOCS.rglob("*.md"):
        place = page.relative_to(DOCS).with_suffix("")
        assert (SITE / ("" if place.name == "index" else place) / "index.html") in pages(), page


def test_what_is_written_as_a_list_or_a_block_is_one() -> None:
    for path, page in pages().items():
        assert re.search(r"\n(?:[-*] |1\. |\|)|```", page.paragraphs) is None, path


def test_no_page_loads_anything_from_another_host() -> None:
    for path, page in pages().items():
        assert [url for url in page.loaded if urlsplit(url).netloc] == [], path
        # Material's script has one address outside, of what draws a diagram.
        assert "mermaid" not in page.classes, path


def test_no_style_loads_anything_from_another_host() -> None:
    styles = list(SITE.rglob("*.css"))
    assert styles
    for path in styles:
        found = _IN_STYLES.findall(path.read_text(encoding="utf-8"))
        assert [url for url in found if urlsplit(url).netloc] == [], path


def test_every_link_leads_to_a_page_and_an_anchor() -> None:
    for path, page in pages().items():
        if path.name == "404.html":  # its links begin at the root of a host
            continue
        for link in page.links:
            place = urlsplit(link)
            if place.scheme or place.netloc:
                continue
            there = (path.parent / unquote(place.path)).resolve() if place.path else path
            there = there / "index.html" if there.is_dir() else there
            assert there.exists(), f"{path}: {link}"
            if place.fragment and there in pages():
                assert unquote(place.fragment) in pages()[there].anchors, f"{path}: {link}"


def test_the_reference_has_all_commands_and_keys() -> None:
    commands = pages()[SITE / "reference" / "commands" / "index.html"].anchors
    assert {f"propsync-{name}" for name in propsync.commands} - commands == set()
    keys = (SITE / "reference" / "job-keys" / "index.html").read_text(encoding="utf-8")
    assert [key for key in job_schema()["properties"] if f"<code>{key}</code>" not in keys] == []
