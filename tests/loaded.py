"""Loads the program; from where it is loaded, `tests.forking` begins its processes."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from etl.cli.allocation import configure_allocation
from etl.cli.pandas_import import keep_out, let_in

configure_allocation()
keep_out()
import etl  # noqa: E402

for module in pkgutil.walk_packages(etl.__path__, "etl."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
let_in()
import_module("tests.commands")  # what modules of tests need, whose functions run in such processes
