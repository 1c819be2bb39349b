"""Stage 4, ENCODE: mapped identifications to chunks, whose bodies fit Amplitude's limits."""

from .cutter import Limits
from .encoder import Encoder, pieces
from .encoding import Encoding, EventEncoding, FormEncoding

__all__ = ["Encoder", "Encoding", "EventEncoding", "FormEncoding", "Limits", "pieces"]
