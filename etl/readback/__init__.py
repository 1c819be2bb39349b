"""What the destination itself says: users of an export read back, and its limits found out."""

from .verify import Verified, verify_job

__all__ = ["Verified", "verify_job"]
