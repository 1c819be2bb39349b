from etl import (
    EtlError as EtlError,
)
from etl import (
    Explanation as Explanation,
)
from etl import (
    Job as Job,
)
from etl import (
    Plan as Plan,
)
from etl import (
    Recorded as Recorded,
)
from etl import (
    RejectLimit as RejectLimit,
)
from etl import (
    RowMinimum as RowMinimum,
)
from etl import (
    Settings as Settings,
)
from etl import (
    Summary as Summary,
)
from etl import (
    Verified as Verified,
)
from etl import (
    __version__ as __version__,
)
from etl import (
    baseline as baseline,
)
from etl import (
    explain as explain,
)
from etl import (
    plan as plan,
)
from etl import (
    preview as preview,
)
from etl import (
    run as run,
)
from etl import (
    verify as verify,
)

__all__: list[str]
