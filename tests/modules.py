"""Which modules of `etl` need no packages beyond the group dev; the walk imports each package."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from pathlib import Path

# The one runs the command, the other needs pyspark.
_LEFT_OUT = {"etl.__main__", "etl.spark.data_source"}


def importable_modules() -> Iterator[str]:
    """The names of all of them, a package before what is in it."""
    folder = Path(__file__).parents[1] / "etl"
    for module in pkgutil.walk_packages([str(folder)], "etl."):
        if module.name not in _LEFT_OUT:
            yield module.name
