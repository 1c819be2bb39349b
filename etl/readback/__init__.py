"""Asks the destination itself: reads users of an export back, and finds out its limits."""

from .probe import probe_key, probe_limits
from .verify import Verified, reading_endpoint, verify_job

__all__ = ["Verified", "probe_key", "probe_limits", "reading_endpoint", "verify_job"]
