"""What all tests share: no host but this machine, an empty home folder, a sandbox, and the command."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.choose_traced import CHOSEN
from tests.commands import KEY, Propsync
from tests.examples import examples
from tests.guard.sitecustomize import keep_inside
from tests.modules import importable_modules

# The same examples every time where a change is judged; others everywhere else, to find what those miss.
# How long examples take says how busy the machine is.
usual = settings(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", usual, derandomize=True)
settings.register_profile("other", usual)
settings.load_profile("same" if os.environ.get("CI") else "other")

# Folders of tests are in memory where there is room: thousands of small databases wait for no disk there.
_MEMORY = Path("/dev/shm")
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


# What a shell starts in the background ignores Ctrl-C, and what `nohup` starts a hang-up; so would tests of
# these and all that they start.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _usual)

# A child that tests fork hands in no coverage, so that measuring it would only take time.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: sys.settrace(None))

# Tracing doubles the time of a test on Python 3.11, so only these tests are traced: together they reach what
# nearly all others reach. `make traced` chooses them anew; a new function or file may be added whole.
TRACED = None if os.environ.get("PROPSYNC_TRACE") == "all" else frozenset(CHOSEN.read_text().splitlines())
_stopped: list[Any] = []
# Left to `make slow`, which every change that lands has to pass too; the file says why.
SLOW = frozenset(Path(__file__).with_name("slow.txt").read_text().splitlines())


def _switch_tracing() -> None:
    """Stop coverage's tracers, or let them go on."""
    tracers = [*_stopped] or [None, None]
    _stopped[:] = [] if _stopped else [sys.gettrace(), threading.gettrace()]
    sys.settrace(tracers[0])
    threading.settrace(tracers[1])


def _import_a_share(session: pytest.Session) -> None:
    """Let each worker begin with other files of a fresh clone, so that one compiles a file and not all."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and session.config.args == session.config.getini("testpaths"):
        files = sorted(Path(__file__).parent.rglob("test_*.py"))
        for file in files[int(worker[2:]) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
            with suppress(Exception, pytest.skip.Exception):  # collecting it says why it fails
                import_module(".".join(file.relative_to(session.config.rootpath).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Trace the import of each module in one process, and then nothing but tests: not their collection."""
    if not session.config.pluginmanager.has_plugin("_cov"):
        return
    if "PYTEST_XDIST_WORKER" not in os.environ:
        for name in importable_modules():
            import_module(name)
    _switch_tracing()
    _import_a_share(session)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow ones, before any are left out by their marks."""
    for item in items:
        if item.nodeid in SLOW:
            item.add_marker("slow")


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    """Collect tests, not garbage: nothing of all that is imported ever is, and nobody looks at it again.

    Tests leave little, so that it is looked for less often than usual.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure the coverage of chosen tests, and none of random examples: what these reach is chance.

    Not by pytest-cov's `no_cover`: in a worker of xdist that lets a second tracer go on.
    """
    random = hasattr(getattr(item, "obj", None), "hypothesis")
    names = {item.nodeid, item.nodeid.partition("[")[0], item.nodeid.partition("::")[0]}
    chosen = TRACED is None or not TRACED.isdisjoint(names)
    traced = bool(_stopped) and chosen and not random
    if traced:
        _switch_tracing()
    yield
    if traced:
        _switch_tracing()


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder that no test may touch, on a machine that nothing leaves."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        keep_inside()
        patch.setenv("HOME", str(folder))
        for name in (
            "AMPLITUDE_API_KEY",
            "AMPLITUDE_SECRET_KEY",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "http_proxy",
            "https_proxy",
        ):
            patch.delenv(name, raising=False)
        yield folder
    assert not list(folder.iterdir()), "something was left in the home folder"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox that remembers requests; at the end it must not have met what never may happen."""
    with running_sandbox(SandboxOptions(record=True)) as running:
        yield running
        assert running.stats.concurrent_users == 0
        assert running.stats.repeated_users == 0
        assert not running.stats.unknown_keys


@pytest.fixture
def propsync(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Propsync]:
    """The command, in a folder of its own and with a key that no file there may hold at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMPLITUDE_API_KEY", KEY)
    yield Propsync(tmp_path, home, capsys)
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not holders, "the key was written to a file"
