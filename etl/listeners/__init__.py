"""Listeners get the events of a run and report them; they never steer it.

`terminal`, `log`, `metrics` and `report` have a listener each; `summary` writes what the command prints at
the end. Each is imported where it is used, since it needs a library of its own.
"""

from ..ending import compose
from .output_file import check_writable

__all__ = ["check_writable", "compose"]
