"""The site for MkDocs: pages from outside `docs`, links between pages, and Markdown as code hosts read it.

The documents are written for a code host. Here links get the places that pages have on the site, and a fenced
block that is a file gets its name as a title.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from site_reference import reference_pages

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
# The pages that lie outside `docs`, and what they are on the site.
MOVED: Final = {
    "README.md": "first-five-minutes.md",
    "RELIABILITY.md": "reliability.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "LICENSE": "license.md",
    "bench/README.md": "how-it-is-measured.md",
}
# Where files are that the site does not have.
_SOURCE: Final = "https://github.com/propsync/propsync/blob/main"
_HOMES: Final = {page: home for home, page in MOVED.items()}
_FENCE: Final = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)(?=[)#])")
# A list right below a line of text, which code hosts take for a list and Python-Markdown for text.
_LIST: Final = re.compile(r"^((?![-*|] |\d+\. )\S.*\n)(?=[-*] |1\. )", re.MULTILINE)
# A list in a list, for which Python-Markdown wants four spaces.
_INNER: Final = re.compile(r"^  (?=[-*] )", re.MULTILINE)
# Words that the pages use for blocks, and what Pygments calls them; a word without an entry is known to it.
_LANGUAGES: Final = {"ndjson": "json", "csv": "text"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside `docs`, and those made from the code."""
    from mkdocs.structure.files import File

    made = {page: (ROOT / home).read_text(encoding="utf-8") for home, page in MOVED.items()}
    made["license.md"] = f"# License\n\n```text\n{made['license.md']}```\n"
    for page, text in (made | dict(reference_pages())).items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn the text of a page for a code host into that for the site."""
    return for_site(markdown, page.file.src_uri)


def for_site(markdown: str, page: str) -> str:
    """The text with the links and the fences of the site; `page` is its path there."""
    done, end = [], 0
    for fence in _FENCE.finditer(markdown):
        done += [_prose(markdown[end : fence.start()], page), _with_title(fence)]
        end = fence.end()
    return "".join([*done, _prose(markdown[end:], page)])


def _prose(text: str, page: str) -> str:
    home = _HOMES.get(page, f"docs/{page}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(home), link[0]))
        there = MOVED.get(target, target.removeprefix("docs/"))
        if there == target:
            return f"{_SOURCE}/{target}"
        return posixpath.relpath(there, posixpath.dirname(page) or ".")

    return _INNER.sub("    ", _LIST.sub(r"\1\n", _LINK.sub(moved, text)))


def _with_title(fence: re.Match[str]) -> str:
    mark, info, text = fence.groups()
    language, _, note = info.strip().partition(" ")
    title = f' title="{note}"' if note else ""
    return f"{mark} {{ .{_LANGUAGES.get(language, language) or 'text'}{title} }}\n{text}{mark}"
