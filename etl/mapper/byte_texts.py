"""Bytes as text: hexadecimal digits, or UUIDs. Text that is written so already comes out in the same form."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapper.cells import Cells, blank_out, faults_of

_DIGITS: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_HEX: Final = r"(?i)^(?:\\x|0x)?((?:[0-9a-f]{2})+)$"
_UUID: Final = "^(.{8})(.{4})(.{4})(.{4})(.{12})$"
_UUID_TEXT: Final = "^[0-9a-f]{32}$"
_NOT_HEX: Final = "{} is neither bytes nor hexadecimal digits"
_NOT_UUID: Final = "{} is no UUID, which has 16 bytes"


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes of one length, and so never text; not for Arrow's own UUIDs."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name != "arrow.uuid" and holds_bytes(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return holds_bytes(kind.value_type)
    return bool(pa.types.is_fixed_size_binary(kind))


def may_hold_bytes(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes, of which old writers make texts, too."""
    if isinstance(kind, pa.BaseExtensionType):
        return may_hold_bytes(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return may_hold_bytes(kind.value_type)
    known = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(is_it(kind) for is_it in known)


def hex_of(values: pa.Array) -> Cells:
    """Bytes, for which `may_hold_bytes` is true, as lower-case hexadecimal digits."""
    values = _stored(values)
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
    data = values.buffers()[2]
    codes = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data else np.zeros(0, np.uint8)
    digits = _DIGITS[np.stack((codes >> 4, codes & 15), axis=1)]
    starts = ((offsets - offsets[0]) * 2).astype(np.int32)
    texts = pa.StringArray.from_buffers(len(values), pa.py_buffer(starts), pa.py_buffer(digits.tobytes()))
    return Cells(blank_out(texts, values.is_null()) if values.null_count else texts)


def uuid_of(values: pa.Array) -> Cells:
    """Bytes, for which `may_hold_bytes` is true, as UUIDs; 16 of them each."""
    return hex_of(values).then(_uuids)


def hex_text(texts: pa.Array) -> Cells:
    r"""Texts of hexadecimal digits in lower case; a beginning `\x` or `0x` is taken off."""
    digits = pc.utf8_lower(pc.replace_substring_regex(texts, _HEX, r"\1"))
    return _fitting(digits, pc.match_substring_regex(texts, _HEX), _NOT_HEX)


def uuid_text(texts: pa.Array) -> Cells:
    """Texts of UUIDs, with dashes and braces or without, as they are usually written."""
    return _uuids(pc.replace_substring_regex(pc.utf8_lower(texts), r"^(?:urn:uuid:|\\x|0x)|[-{}]", ""))


def _uuids(digits: pa.Array) -> Cells:
    texts = pc.replace_substring_regex(digits, _UUID, r"\1-\2-\3-\4-\5")
    return _fitting(texts, pc.match_substring_regex(digits, _UUID_TEXT), _NOT_UUID)


def _fitting(texts: pa.Array, fits: pa.Array, says: str) -> Cells:
    misfits = pc.invert(fits).fill_null(False)
    return Cells(blank_out(texts, misfits), faults_of("bad_bytes", misfits, says))


def _stored(values: pa.Array) -> pa.Array:
    """The values as Arrow's plain binary."""
    if isinstance(values.type, pa.BaseExtensionType):
        return _stored(values.storage)
    if pa.types.is_dictionary(values.type):
        return _stored(values.dictionary_decode())
    if pa.types.is_run_end_encoded(values.type):
        return _stored(pc.run_end_decode(values))
    return values if pa.types.is_binary(values.type) else values.cast(pa.binary())
