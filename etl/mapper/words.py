"""Words that stand for values, as `values` of a column says."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapper.cells import Cells, faults_of

if TYPE_CHECKING:
    from pydantic import JsonValue

NO_SUCH_WORD: Final = "{} is none of the texts in `values`"

Words: TypeAlias = tuple[tuple[str, str], ...]


def read_words(texts: pa.Array, words: Words) -> Cells:
    """What trimmed texts stand for; a text that isn't among the words is a fault.

    Where what they stand for is of several types, the result is raw.
    """
    known, meant, raw = _tables(words)
    places = pc.index_in(pc.utf8_trim_whitespace(texts), value_set=known)
    unknown = pc.and_not(texts.is_valid(), places.is_valid())
    return Cells(meant.take(places), faults_of("bad_value", unknown, NO_SUCH_WORD), raw=raw)


def are_mixed(words: Words) -> bool:
    """Whether words stand for values of several types, for which Arrow has no type."""
    return len({_kind(orjson.loads(text)) for _, text in words if text != "null"}) > 1


@lru_cache(maxsize=256)
def _tables(words: Words) -> tuple[pa.Array, pa.Array, bool]:
    """The words, what each stands for, and whether that is JSON text."""
    known = pa.array([word for word, _ in words], pa.string())
    texts = [text for _, text in words]
    if are_mixed(words):
        return known, pa.array([None if text == "null" else text for text in texts], pa.string()), True
    values = [orjson.loads(text) for text in texts]
    meant = pa.array(values)
    return known, meant.cast(pa.string()) if pa.types.is_null(meant.type) else meant, False


def _kind(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "text"
