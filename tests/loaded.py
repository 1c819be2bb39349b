"""Loads the program; from where it is loaded, `tests.forking` begins its processes."""

from __future__ import annotations

from importlib import import_module

from etl.job.spec import job_schema
from etl.process import allow_pandas, configure_allocation, watch_imports
from tests.modules import importable_modules

configure_allocation()
watch_imports()

for name in importable_modules():
    import_module(name)
allow_pandas()
job_schema()  # what checks job files is built once, in half the time of a small run
import_module("tests.commands")  # what modules of tests need, whose functions run in such processes
