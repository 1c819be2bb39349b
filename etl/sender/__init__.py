"""Stage 5, SEND: chunks to Amplitude until every identification has a verdict, in order for each user."""

from etl.sender.delivery import Delivery, Outcome, Transport
from etl.sender.http import Identify
from etl.sender.lanes import Lanes
from etl.sender.pacing import Clock, Rate, Waits
from etl.sender.pause import Pause, StoppedError

__all__ = [
    "Clock",
    "Delivery",
    "Identify",
    "Lanes",
    "Outcome",
    "Pause",
    "Rate",
    "StoppedError",
    "Transport",
    "Waits",
]
