"""What Amplitude takes (`requests`) and what its answers say (`answers`) and mean (`responses`). No I/O.

Source: Amplitude's Identify, Batch Event Upload and HTTP V2 API pages unless a comment says otherwise; for
reading users, https://amplitude.com/docs/apis/analytics/user-profile
"""

from .requests import *  # noqa: F403 - so that the rest may write `amplitude.MAX_DEPTH`
