"""propsync under its own name: the modules of the folder `etl` beside this one.

A project that has an `etl` of its own imports `propsync`; elsewhere both names work. A program should use one
of them: each name loads the modules for itself, so `propsync.EtlError` and `etl.EtlError` are two classes.
"""

import os

# The submodules of this package are those of `etl`, in which all imports are relative. Without pathlib, which
# imports more than all of `propsync --help` needs.
__path__ = [os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "etl")]  # noqa: PTH118, PTH120

from .library import __all__ as __all__
from .library import __getattr__ as __getattr__
from .library import baseline, explain, plan, preview, run, verify  # noqa: F401
