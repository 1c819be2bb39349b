"""How the process of the command is set up before it imports anything large: its memory, and no pandas."""

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


class _NoPandas:
    """A finder of modules that is asked first: it has memory set up before numpy and Arrow, and no pandas.

    None in `sys.modules` would be simpler, but pyarrow's conversions fail over it.
    """

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name in {"numpy", "pyarrow"}:
            configure_allocation()
        if name == "pandas":
            raise ImportError(name)


_NO_PANDAS = _NoPandas()


def block_pandas() -> None:
    """Let nothing in this process import pandas, which only a job with a transform of its own needs.

    Memory is set up before numpy or Arrow comes. pyarrow looks for pandas at its first conversion, to know
    whether it may ever be given a Series: a quarter of a second, and 35 MB, for what no other job gives it.
    Where it finds none it works the same.
    """
    sys.meta_path.insert(0, _NO_PANDAS)


def allow_pandas() -> None:
    """Let pandas be imported again; call it before pyarrow has looked for it."""
    if _NO_PANDAS in sys.meta_path:
        sys.meta_path.remove(_NO_PANDAS)
