"""JSON texts of arrays taken apart into marked elements."""

from __future__ import annotations

import pyarrow as pa

from etl.arrow.exact_json import dump, load
from etl.arrow.raw_json import mark
from etl.mapper.cells import as_mask
from etl.mapper.lists import Opened, open_lists


def mark_elements(texts: pa.Array) -> pa.Array:
    """JSON texts as lists of marked strings: those of arrays by element, any other as a list of one."""
    lists = [None if text is None else _elements(text) for text in texts.to_pylist()]
    array = pa.array(lists, pa.list_(pa.string()))
    opened: Opened = open_lists(array)
    return opened.rebuilt(mark(opened.flat), keep=as_mask(opened.flat.is_valid()))


def _elements(text: str) -> list[str]:
    value = load(text)
    return [dump(element) for element in (value if isinstance(value, list) else [value])]


def listed(texts: pa.Array) -> pa.Array:
    """JSON texts of objects as those of lists of one."""
    return pa.array(
        [text and (f"[{text}]" if text[0] == "{" else text) for text in texts.to_pylist()], pa.string()
    )


def listed_texts(texts: pa.Array) -> pa.Array:
    """JSON texts of lists and single values as lists of text; what isn't text as its JSON."""
    lists = [
        None if text is None else [_plain(element) for element in _elements(text)]
        for text in texts.to_pylist()
    ]
    return pa.array(lists, pa.list_(pa.string()))


def _plain(text: str) -> str:
    return str(load(text)) if text[0] == '"' else text
