"""A real browser: Debian's Chromium, which playwright drives. Without both, these tests are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.sandbox import Sandbox, running_sandbox
from tests.browser.checks import Watched

FLAGS = """
    --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync
"""
HERE = str(Path(__file__).parent)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if str(item.path).startswith(HERE):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    home = str(tmp_path_factory.mktemp("browser"))
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(
            executable_path=chromium, args=FLAGS.split(), env={**os.environ, "HOME": home}
        )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Watched]]:
    """Opens a page that is watched: at the end it must have asked no other host and met no error."""
    contexts: list[Any] = []
    pages: list[Watched] = []

    def open_page(url: str, **context: Any) -> Watched:
        contexts.append(browser.new_context(**context))
        pages.append(Watched(contexts[-1].new_page(), url))
        return pages[-1]

    yield open_page
    for page in pages:
        page.check_quiet()
    for context in contexts:
        context.close()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox() as running:
        yield running
