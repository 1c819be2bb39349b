"""How this process keeps memory: batches of some megabytes come and go all the time.

The system's allocator gives such memory back as soon as it is freed, and fetches it again page by page for
the next batch, which takes a tenth of a run. It gives it back later here, and at most so much is held.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

# From glibc's malloc.h; other systems have no such function, and no such habit.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 18 << 20
_LONGEST_OF_THE_HEAP: Final = 32 << 20  # the most that glibc takes


def configure_allocation() -> None:
    """Say how memory is got and kept; call it before numpy or Arrow is imported."""
    # Arrow's own allocators keep all that they once had; the system's has a bound, at the same speed.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # numpy's linear algebra, which nothing here uses, would start threads that wait by spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if tune is not None:
        tune(_TRIM_THRESHOLD, _KEPT_BYTES)
        tune(_MMAP_THRESHOLD, _LONGEST_OF_THE_HEAP)
