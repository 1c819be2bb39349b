"""The JSON Schema of the job file, for editors: what it takes the door takes, as far as a schema can say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from etl.job.schema import JobShape

if TYPE_CHECKING:
    from pydantic_core import core_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a job file."""
    schema = JobShape.model_json_schema(schema_generator=_ForEditors)
    return {"$schema": DIALECT, **schema, "title": "propsync job"}


class _ForEditors(GenerateJsonSchema):
    """Leaves out what only repeats the keys' names, and the nulls that stand for absent keys."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if made.get("default", "") in (None, {}, []):
            made.pop("default")
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
