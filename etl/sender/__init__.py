"""Stage 5, SEND: chunks to Amplitude until every identification has a verdict, in order for each user."""

from etl.sender.batch import Batch
from etl.sender.control import AdmittedRate
from etl.sender.delivery import Delivery, Outcome
from etl.sender.http import Http
from etl.sender.identify import Identify
from etl.sender.lanes import Lanes
from etl.sender.pacing import Clock, Rate, Waits
from etl.sender.pause import Pause, StoppedError
from etl.sender.roles import Pace, Transport

__all__ = [
    "AdmittedRate",
    "Batch",
    "Clock",
    "Delivery",
    "Http",
    "Identify",
    "Lanes",
    "Outcome",
    "Pace",
    "Pause",
    "Rate",
    "StoppedError",
    "Transport",
    "Waits",
]
