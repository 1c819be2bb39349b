"""Stage 4, ENCODE: mapped identifications to chunks, whose bodies fit Amplitude's limits."""

from .cutter import Limits as Limits
from .encoder import Encoder as Encoder
from .encoder import pieces as pieces
from .encoding import Encoding as Encoding
from .encoding import EventEncoding as EventEncoding
from .encoding import FormEncoding as FormEncoding
