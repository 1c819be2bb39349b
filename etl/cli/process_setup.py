"""How the process of the command is set up before it imports anything large: memory, signals, no pandas."""

from __future__ import annotations

import os
import sys
from typing import Final

# From glibc's malloc.h; other systems have no such function, and no such habit.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
_KEPT_BYTES: Final = 18 << 20
_LARGEST_ON_HEAP: Final = 32 << 20  # the most that glibc takes


def configure_allocation() -> None:
    """Keep freed memory for the next batch; call it before numpy or Arrow is imported.

    The system's allocator gives the megabytes of a batch back as soon as they are freed, and fetches them
    again page by page for the next batch, which takes a tenth of a run. Here it gives them back later, and
    what it holds is limited: by one heap for all threads, which ask rarely and for much at once.
    """
    import ctypes  # here, as short commands have no batches

    # Arrow's own allocators keep all that they once had; the system's has a bound, at the same speed.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # numpy's linear algebra, which nothing here uses, would start threads that wait by spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if tune is not None:
        tune(_TRIM_THRESHOLD, _KEPT_BYTES)
        tune(_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
        tune(_ARENA_MAX, 1)


class _BeforeImports:
    """A finder of modules that is asked first, and finds none: it sets up what a module needs."""

    pandas = False  # whether it may be imported

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name in {"numpy", "pyarrow"}:
            configure_allocation()
        # While Arrow parses CSV in the main thread, it handles signals itself, and loses one in thirty.
        if name == "pyarrow.csv":
            sys.modules["pyarrow"].enable_signal_handlers(False)
        # None in `sys.modules` would be simpler, but pyarrow's conversions fail over it.
        if name == "pandas" and not self.pandas:
            raise ImportError(name)


_BEFORE_IMPORTS = _BeforeImports()


def watch_imports() -> None:
    """Set up memory before numpy or Arrow comes, leave signals to Python, and let nothing import pandas.

    Only a job with a transform of its own needs pandas. pyarrow looks for it at its first conversion, to know
    whether it may ever be given a Series: a quarter of a second, and 35 MB, for what no other job gives it.
    Where it finds none it works the same.
    """
    _BEFORE_IMPORTS.pandas = False
    if _BEFORE_IMPORTS not in sys.meta_path:
        sys.meta_path.insert(0, _BEFORE_IMPORTS)


def allow_pandas() -> None:
    """Let pandas be imported; call it before pyarrow has looked for it."""
    _BEFORE_IMPORTS.pandas = True
