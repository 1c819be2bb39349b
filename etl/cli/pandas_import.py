"""pandas is only imported for a job that has a transform of its own.

pyarrow looks for pandas at its first conversion, to know whether it may ever be given a Series: a quarter of
a second, and 35 MB, for what no command gives it. Where it finds none it works the same.
"""

from __future__ import annotations

import sys


class _NoPandas:
    """A finder of modules, asked before all others, that says there is no pandas."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "pandas":
            raise ImportError(name)


_NO_PANDAS = _NoPandas()


def keep_out() -> None:
    """Let nothing in this process import pandas, from now on."""
    sys.meta_path.insert(0, _NO_PANDAS)


def let_in() -> None:
    """Let pandas be imported; call it before pyarrow has looked for it."""
    if _NO_PANDAS in sys.meta_path:
        sys.meta_path.remove(_NO_PANDAS)
