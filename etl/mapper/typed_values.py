"""Values of sources: each Arrow type as one of a few that JSON and Amplitude take, or as text, and its steps.

The few are booleans, integers, floats, decimals, strings of valid UTF-8, date32, timestamps, lists, structs
and maps.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.requests import MAX_DEPTH
from ..arrow.json_text import is_json, json_texts, strip_marks
from ..arrow.layout import (
    FlatLists,
    as_mask,
    is_list,
    map_entries,
    maps_of,
    plain_array,
    plain_type,
    storage_array,
    storage_type,
    struct_of,
    text_layout,
    valid_mask,
)
from ..arrow.originals import is_textual
from .column_values import (
    NESTED_LIST,
    ColumnValues,
    TooLong,
    blank_bad,
    blank_out,
    empty_to_null,
    fit_lists,
    fit_strings,
    issues_of,
    issues_of_lists,
)
from .datetimes import check_days, parse_formats, to_seconds
from .numbers import check_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..job.column_spec import Step

TOO_DEEP: Final = f"{{}} is nested deeper than {MAX_DEPTH} levels"

_NOT_TEXT: Final = "{} is binary data, not UTF-8 text"
_NOT_HEX: Final = "{} is neither bytes nor hexadecimal digits"
_NOT_UUID: Final = "{} is not a UUID, which has 16 bytes"
_HEX: Final = r"(?i)^(?:\\x|0x)?((?:[0-9a-f]{2})+)$"


# --- one of a few types ----------------------------------------------------------------------------------


def plain_values(values: pa.Array) -> ColumnValues:
    """Decode what `plain_array` decodes, and extensions, binaries and rare types; the top level only."""
    values = plain_array(values)
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return (uuid_of if kind.extension_name == "arrow.uuid" else plain_values)(values.storage)
    if is_textual(kind):
        return _strings(values)
    if pa.types.is_null(kind) or pa.types.is_time(kind):
        values = values.cast(pa.string())
    elif pa.types.is_float16(kind):
        values = values.cast(pa.float32())
    elif pa.types.is_date64(kind):
        milliseconds = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        days = np.clip(np.floor_divide(milliseconds, 86_400_000), -(2**31), 2**31 - 1).astype(np.int32)
        values = pa.array(days, mask=as_mask(values.is_null())).cast(pa.date32())
    elif pa.types.is_duration(kind) or pa.types.is_interval(kind):
        values = pc.utf8_trim(json_texts(values), '"')
    return ColumnValues(values)


def _strings(values: pa.Array) -> ColumnValues:
    """Strings were checked by the reader; a cast from binary checks them."""
    with suppress(pa.ArrowInvalid):
        return ColumnValues(values.cast(pa.string()))
    values = values.cast(pa.binary())
    texts = [None if value is None else value.decode(errors="ignore") for value in values.to_pylist()]
    strings = pa.array(texts, pa.string())
    return blank_bad(strings, pc.not_equal(strings.cast(pa.binary()), values), "bad_text", _NOT_TEXT)


# --- values that keep their type -------------------------------------------------------------------------


def native_values(values: pa.Array, too_long: TooLong) -> ColumnValues:
    """Clean plain values at every level; the type of the result depends on their type alone."""
    if _depth(values.type) > MAX_DEPTH:
        nothing = pa.nulls(len(values), pa.string())
        return ColumnValues(nothing, issues_of("too_deep", values.is_valid(), TOO_DEEP))
    return _clean(values, too_long)


def _clean(values: pa.Array, too_long: TooLong) -> ColumnValues:
    kind = values.type
    if pa.types.is_string(kind):
        return fit_strings(values, too_long)
    if pa.types.is_floating(kind):
        return check_finite(values)
    if pa.types.is_date(kind):
        return check_days(values)
    if pa.types.is_timestamp(kind):
        return to_seconds(values)
    if is_list(kind):
        return _clean_lists(values, too_long)
    if pa.types.is_struct(kind) and not kind.num_fields:
        return ColumnValues(pa.nulls(len(values), pa.string()))
    if pa.types.is_struct(kind):
        members = [plain_values(child).then(_clean, too_long) for child in values.flatten()]
        pairs = [(field.name, member.values) for field, member in zip(kind, members, strict=True)]
        return ColumnValues(struct_of(pairs), tuple(issue for member in members for issue in member.issues))
    return _clean_maps(values, too_long) if pa.types.is_map(kind) else ColumnValues(values)


def _clean_lists(values: pa.Array, too_long: TooLong) -> ColumnValues:
    """Lists without nulls. Of a list of lists only an empty one can be sent."""
    lists = FlatLists.of(values)
    elements = plain_values(lists.elements)
    if is_list(elements.values.type):
        found = issues_of("nested_list", lists.elements.is_valid(), NESTED_LIST)
        elements = ColumnValues(pa.nulls(len(lists.elements), pa.string()), found)
    strings = pa.types.is_string(elements.values.type)
    if not strings:  # the strings of a list count together
        elements = elements.then(_clean, too_long)
    rebuilt = lists.rebuild(elements.values, valid_mask(elements.values))
    cleaned = ColumnValues(rebuilt, issues_of_lists(lists, elements.issues))
    return cleaned.then(fit_lists, too_long) if strings else cleaned


def _clean_maps(maps: pa.Array, too_long: TooLong) -> ColumnValues:
    """Maps with their keys as text, without the members that are null or have no name."""
    lists = FlatLists.of(map_entries(maps))  # Arrow doesn't flatten maps
    keys, items = lists.elements.flatten()
    names = plain_values(keys).then(scalar_texts)
    members = plain_values(items).then(_clean, too_long)
    keep = valid_mask(members.values) & valid_mask(names.values)  # Arrow ends the process over a null key
    result = maps_of(lists, names.values, members.values, keep)
    return ColumnValues(result, issues_of_lists(lists, names.issues + members.issues))


def _depth(kind: pa.DataType) -> int:
    """Levels of nesting: 0 for a single value, 1 for a list or object of such."""
    kind = storage_type(kind)
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    if pa.types.is_map(kind):
        inner = [kind.item_type]
    return 1 + max((_depth(part) for part in inner), default=0) if inner else 0


# --- values as text --------------------------------------------------------------------------------------


def as_text(values: pa.Array) -> ColumnValues:
    """Plain values as strings; JSON, lists and objects as their JSON."""
    if is_json(values.type):
        return ColumnValues(values.storage)
    if _depth(values.type) == 0:
        return scalar_texts(values)
    return native_values(values, "reject").then(json_texts)


def element_texts(values: pa.Array) -> ColumnValues:
    """Plain values as strings; lists as lists of strings, without nulls."""
    if not is_list(values.type):
        return as_text(values)
    lists = FlatLists.of(values)
    texts = as_text(lists.elements)
    rebuilt = lists.rebuild(strip_marks(texts.values), valid_mask(texts.values))
    return ColumnValues(rebuilt, issues_of_lists(lists, texts.issues))


def scalar_texts(values: pa.Array) -> ColumnValues:
    """Plain single values as strings: 17.0 as `17`, decimals with all digits, times as Amplitude has them."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return ColumnValues(values.cast(pa.string()))
    if pa.types.is_floating(kind):
        # Whole floats without a point: pandas makes floats of integers with gaps.
        checked = check_finite(values)
        floats = checked.values.to_numpy(zero_copy_only=False)
        integral = (np.abs(floats) <= 2**53) & (floats == np.floor(floats))
        digits = pa.array(np.where(integral, floats, 0).astype(np.int64)).cast(pa.string())
        texts = pc.if_else(pa.array(integral), digits, checked.values.cast(pa.string()))
        return ColumnValues(texts, checked.issues)
    if pa.types.is_date(kind):
        return check_days(values).then(pc.cast, pa.string())
    if pa.types.is_timestamp(kind):
        return to_seconds(values).then(pc.cast, pa.string()).then(pc.replace_substring, " ", "T")
    return ColumnValues(json_texts(values))


# --- bytes as text ---------------------------------------------------------------------------------------


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes of one length, and so never text; not for Arrow's own UUIDs."""
    is_uuid = getattr(plain_type(kind), "extension_name", None) == "arrow.uuid"
    return not is_uuid and bool(pa.types.is_fixed_size_binary(storage_type(kind)))


def may_hold_bytes(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes, of which old writers make texts, too."""
    kind = storage_type(kind)
    return kind in {pa.binary(), pa.large_binary()} or bool(pa.types.is_fixed_size_binary(kind))


def decode_source(
    values: pa.Array, steps: tuple[Step, ...], *, ids: bool
) -> tuple[ColumnValues, tuple[Step, ...]]:
    """Plain values of a source, and the steps that are left: only the first step can be for bytes.

    Ids that are bytes of one length become hexadecimal digits without a step.
    """
    verb = steps[0].verb if steps else None
    if verb in {"hex", "uuid"} and may_hold_bytes(values.type):
        return (hex_of if verb == "hex" else uuid_of)(values), steps[1:]
    return (hex_of if ids and holds_bytes(values.type) else plain_values)(values), steps


def hex_of(values: pa.Array) -> ColumnValues:
    """Bytes, for which `may_hold_bytes` is true, as lower-case hexadecimal digits."""
    values = storage_array(values).cast(pa.binary())
    starts, _, codes = text_layout(values)
    digits = codes.tobytes().hex().encode()
    offsets = 2 * np.append(starts, len(codes)).astype(np.int32)
    texts = pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(digits))
    return ColumnValues(blank_out(texts, values.is_null()))


def uuid_of(values: pa.Array) -> ColumnValues:
    """Bytes, for which `may_hold_bytes` is true, as UUIDs; 16 of them each."""
    return hex_of(values).then(uuid_text)


def hex_text(texts: pa.Array) -> ColumnValues:
    r"""Texts of hexadecimal digits in lower case; a beginning `\x` or `0x` is taken off."""
    digits = pc.utf8_lower(pc.replace_substring_regex(texts, _HEX, r"\1"))
    return blank_bad(digits, pc.invert(pc.match_substring_regex(texts, _HEX)), "bad_bytes", _NOT_HEX)


def uuid_text(texts: pa.Array) -> ColumnValues:
    """Texts of UUIDs, with dashes and braces or without, as they are usually written."""
    digits = pc.replace_substring_regex(pc.utf8_lower(texts), r"^(?:urn:uuid:|\\x|0x)|[-{}]", "")
    bad = pc.invert(pc.match_substring_regex(digits, "^[0-9a-f]{32}$"))
    dashed = pc.replace_substring_regex(digits, "^(.{8})(.{4})(.{4})(.{4})(.{12})$", r"\1-\2-\3-\4-\5")
    return blank_bad(dashed, bad, "bad_bytes", _NOT_UUID)


# --- steps -----------------------------------------------------------------------------------------------


_WITHOUT_ARGUMENT: Final[dict[str, Callable[[pa.Array], pa.Array | ColumnValues]]] = {
    "trim": pc.utf8_trim_whitespace,
    "lower": pc.utf8_lower,
    "upper": pc.utf8_upper,
    "hex": hex_text,
    "uuid": uuid_text,
}


def apply_steps(
    values: pa.Array, steps: tuple[Step, ...], *, blank_is_null: bool, zone: str | None = None
) -> ColumnValues:
    """Plain values after all steps. `blank_is_null`: a text that a step has emptied is null for the next.

    A time without a zone is in `zone`.
    """
    found = ColumnValues(values)
    for step in steps:
        found = found.then(as_text).then(_apply, step, zone)
        if blank_is_null:
            found = found.then(empty_to_null)
    return found


def _apply(texts: pa.Array, step: Step, zone: str | None) -> pa.Array | ColumnValues:
    if step.verb in _WITHOUT_ARGUMENT:
        return _WITHOUT_ARGUMENT[step.verb](texts)
    match step.verb:
        case "date_format":
            return parse_formats(texts, step.formats, zone)
        case "prefix":
            texts = pc.binary_join_element_wise(step.argument, texts, "")
        case "replace":
            for old, new in step.pairs:
                if old:  # Arrow would look for an empty text for ever
                    texts = pc.replace_substring(texts, old, new)
        case "sha256":  # each distinct text is hashed once
            encoded = texts.dictionary_encode()
            distinct = encoded.dictionary.cast(pa.binary()).to_pylist()
            digests = pa.array([hashlib.sha256(text).hexdigest() for text in distinct], pa.string())
            texts = digests.take(encoded.indices)
    return texts
