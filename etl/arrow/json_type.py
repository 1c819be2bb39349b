"""Columns whose values are JSON of any kind: text of one value each, exactly as precise as in the source."""

from __future__ import annotations

from typing import Final, TypeGuard

import orjson
import pyarrow as pa


class JsonType(pa.ExtensionType):  # type: ignore[misc]
    """JSON text of one value a row; a JSON null is null."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "propsync.json")

    def __arrow_ext_serialize__(self) -> bytes:
        """Nothing: there is one such type."""
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> JsonType:
        """The type again."""
        return cls()


JSON: Final = JsonType()


def is_json(kind: pa.DataType) -> TypeGuard[JsonType]:
    """Whether values of this type are JSON text of one value each."""
    return isinstance(kind, JsonType)


def json_as_text(values: pa.ExtensionArray) -> pa.Array:
    """JSON values as strings: text as it is, everything else as its JSON."""
    texts = values.storage.to_pylist()
    plain = [orjson.loads(text) if text is not None and text[0] == '"' else text for text in texts]
    return pa.array(plain, pa.string())


def json_column(texts: list[str | None]) -> pa.ExtensionArray:
    """JSON texts as a column of JSON values; shape (n,)."""
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.string()))
