"""Stage 5, SEND: chunks to Amplitude until every identification has a verdict, in order for each user."""

from etl.sender.control import AdmittedRate
from etl.sender.delivery import Delivery
from etl.sender.lanes import Lanes
from etl.sender.outcome import Outcome
from etl.sender.pacing import Clock, Rate, Waits
from etl.sender.pause import GRACE_SECONDS, Pause, StoppedError
from etl.sender.roles import Pace, Transport

__all__ = [
    "GRACE_SECONDS",
    "AdmittedRate",
    "Clock",
    "Delivery",
    "Lanes",
    "Outcome",
    "Pace",
    "Pause",
    "Rate",
    "StoppedError",
    "Transport",
    "Waits",
]
