"""Stage 4, ENCODE: mapped identifications to chunks, whose bodies fit Amplitude's limits."""

from .cutter import Limits
from .encoder import Encoder, pieces
from .events import EventEncoding
from .form import FormEncoding
from .lines import Encoding

__all__ = ["Encoder", "Encoding", "EventEncoding", "FormEncoding", "Limits", "pieces"]
