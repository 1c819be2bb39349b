"""propsync: user properties from CSV and Parquet exports into Amplitude.

The same calls that the command makes, for scripts and notebooks:

    from propsync import Job, run

    summary = run(Job.load("job.yml"), dataframe, endpoint="http://127.0.0.1:8080", rate=None)

A source may be a path, a glob, a DataFrame, an Arrow table, a stream or generator of these, or a list of all
that. `propsync` and `etl` are two names of this package; a project with an `etl` of its own uses the first.
"""

from typing import TYPE_CHECKING

from .library import __all__ as __all__
from .library import baseline as baseline
from .library import explain as explain
from .library import plan as plan
from .library import preview as preview
from .library import run as run
from .library import verify as verify

if TYPE_CHECKING:
    from .errors import EtlError as EtlError
    from .job.spec import Job as Job
    from .pipeline.diff_base import Recorded as Recorded
    from .pipeline.plan import Plan as Plan
    from .pipeline.preview import Explanation as Explanation
    from .pipeline.settings import RejectLimit as RejectLimit
    from .pipeline.settings import RowMinimum as RowMinimum
    from .pipeline.settings import Settings as Settings
    from .readback import Verified as Verified
    from .run_events import Summary as Summary

    __version__: str
else:
    from .library import __getattr__ as __getattr__
