"""The ways into Amplitude, by their names in a job file.

Not imported with its neighbours: aiohttp, which takes 0.14 s, is only needed where a run begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from etl.amplitude import TransportName
from etl.sender.batch import Batch
from etl.sender.http import Http
from etl.sender.identify import Identify

TRANSPORTS: Final[Mapping[TransportName, type[Http]]] = {"identify": Identify, "batch": Batch}
