"""What Amplitude takes (`limits`, `operators`) and what it answers (`responses`, `answers`). No I/O.

Source: Amplitude's Identify, Batch Event Upload and HTTP V2 API pages unless a comment says otherwise.
"""

from .requests import *  # noqa: F403 - so that the rest may write `amplitude.MAX_DEPTH`  # noqa: F403
