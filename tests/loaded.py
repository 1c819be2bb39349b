"""Loads the program; from where it is loaded, `tests.forking` begins its processes."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from etl.cli.process_setup import allow_pandas, block_pandas, configure_allocation

configure_allocation()
block_pandas()
import etl  # noqa: E402

for module in pkgutil.walk_packages(etl.__path__, "etl."):
    if module.name.rpartition(".")[2] not in {"__main__", "data_source"}:  # the one needs pyspark
        import_module(module.name)
allow_pandas()
import_module("tests.commands")  # what modules of tests need, whose functions run in such processes
