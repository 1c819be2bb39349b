"""What the destination itself says: users of an export read back, and its limits found out."""

from .probe import probe_key, probe_limits
from .verify import Verified, reading_endpoint, verify_job

__all__ = ["Verified", "probe_key", "probe_limits", "reading_endpoint", "verify_job"]
