"""The JSON Schema of the job file: for editors, and to find out where an unknown key belongs."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from .problems import KeyPath, did_you_mean, nearest

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import core_schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _EditorSchema(GenerateJsonSchema):
    """Leaves out what only repeats the keys' names, and the defaults that mean an absent key."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if "$ref" in made or not isinstance(made.get("default"), str | int) or made["default"] == "":
            made.pop("default", None)
        return made

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return _with_texts(super().dataclass_schema(schema))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return _with_texts(super().typed_dict_schema(schema))

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _with_texts(section: JsonSchemaValue) -> JsonSchemaValue:
    """A section with the texts of its keys: lines `- KEY: text` behind its docstring's first paragraph."""
    section["description"], _, texts = section.get("description", "").partition("\n\n")
    for key, text in re.findall(r"^- (\S+): (.+(?:\n  .+)*)", texts, re.MULTILINE):
        if key in section["properties"]:
            told = {**section["properties"][key], "description": " ".join(text.split())}
            section["properties"][key] = dict(sorted(told.items()))
    return section


def editor_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what the adapter validates."""
    schema = adapter.json_schema(schema_generator=_EditorSchema)
    return {"$schema": DIALECT, **schema, "title": "propsync job"}


def unknown_key_remedy(path: KeyPath, schema: dict[str, Any]) -> str:
    """The end of a message about an unknown key: where it belongs, or which key was probably meant."""
    word = str(path[-1])
    if len(path) <= 2:
        if word in schema["properties"]:
            return "; it belongs at the top level"
        for section, part in schema["properties"].items():
            # Under `identification` it is rather the name of a property, such as `plan`.
            known = any(word in one.get("properties", ()) for one in _alternatives(part, schema))
            if known and (section, path[0]) != ("run", "identification"):
                return f"; it belongs under `{section}`"
    owner = schema
    for key in path[:-1]:
        parts = _alternatives(owner, schema)
        if isinstance(key, int):
            owner = next((one["items"] for one in parts if "items" in one), owner)
        else:
            named = (one["properties"][key] for one in parts if key in one.get("properties", ()))
            unnamed = (one["additionalProperties"] for one in parts if one.get("additionalProperties"))
            owner = next(chain(named, unnamed), {})
    # Steps without an argument are words in place of a mapping.
    parts = _alternatives(owner, schema)
    words = [key for kind in ("properties", "enum") for one in parts for key in one.get(kind, ())]
    if path[:-1] == ("identification",) and nearest(word, words) is None:
        return "; properties belong under `user_properties`"
    return did_you_mean(word, words)


def _alternatives(part: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas that a schema refers to or has the choice of, itself among them."""
    found = [part]
    if "$ref" in part:
        found += _alternatives(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    for one in part.get("anyOf", ()):
        found += _alternatives(one, schema)
    return found
