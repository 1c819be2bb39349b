"""Stage 4, ENCODE: mapped identifications to chunks, whose bodies fit Amplitude's limits."""

from etl.encoder.cutter import Limits
from etl.encoder.encoder import Encoder, pieces
from etl.encoder.events import EventEncoding
from etl.encoder.form import FormEncoding
from etl.encoder.lines import Encoding

__all__ = ["Encoder", "Encoding", "EventEncoding", "FormEncoding", "Limits", "pieces"]
