"""A checked shape becomes the frozen Job. The order of keys in a file changes nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etl import amplitude
from etl.job.bare import is_blank
from etl.job.column_rules import Place, kind, value_type
from etl.job.constants import Kind, json_text
from etl.job.findings import Path, line_of
from etl.job.schema import ColumnShape, CsvShape, IdentificationShape, JobShape, OperatorsShape
from etl.job.spec import Changes, ColumnSpec, CsvOptions, Destination, Identification, Job

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping, Sequence


def build(shape: JobShape, *, name: str, file: str, folder: pathlib.Path, lines: Mapping[Path, int]) -> Job:
    """The job of a shape that no rule objects to. `name` is for a job that has none; `lines` may be empty."""
    identification = _identification(shape.identification, shape.nulls)
    return Job(
        name=shape.name or name,
        folder=folder,
        source=tuple(shape.source),
        identification=identification,
        destination=Destination(
            shape.destination.region, shape.destination.transport, shape.destination.trust_status
        ),
        csv=_csv(shape.csv),
        missing=shape.missing,
        changes=Changes(shape.changes.by, tuple(sorted(shape.changes.ignore)), shape.absent),
        transform=shape.transform,
        api_key_env=shape.api_key_env,
        api_key_file=shape.api_key_file,
        partial_families=shape.partial_families,
        file=file,
        lines=_spec_lines(identification, lines),
    )


def _csv(shape: CsvShape) -> CsvOptions:
    # Two quotes stand for one without being told.
    escape = "" if shape.escape == shape.quote else shape.escape or ""
    header = tuple(shape.header) if isinstance(shape.header, list) else shape.header
    return CsvOptions(shape.delimiter, shape.encoding, shape.quote, escape, header, shape.skip_rows)


def _identification(shape: IdentificationShape, nulls: Sequence[str]) -> Identification:
    operators = shape.user_properties
    return Identification(
        fields=_fields(shape, nulls),
        groups=_specs(shape.groups, "group", nulls),
        operators=_operators(operators, nulls),
        unset=tuple(sorted(operators.unset)),
        clear_all=operators.clear_all,
    )


def _fields(shape: IdentificationShape, nulls: Sequence[str]) -> dict[str, ColumnSpec]:
    named = ((name, getattr(shape, name)) for name in (*amplitude.ID_FIELDS, *amplitude.STRING_FIELDS))
    fields = {name: _spec(column, "field", nulls) for name, column in named if column is not None}
    return fields if shape.time is None else fields | {amplitude.TIME_FIELD: _spec(shape.time, "time", nulls)}


def _operators(shape: OperatorsShape, nulls: Sequence[str]) -> dict[str, dict[str, ColumnSpec]]:
    by_name = {field.alias: getattr(shape, name) for name, field in OperatorsShape.model_fields.items()}
    with_columns = [name for name in amplitude.OPERATORS if name not in {"$clearAll", "$unset"}]
    return {name: _specs(by_name[name], name, nulls) for name in with_columns if by_name[name]}


def _specs(columns: Mapping[str, ColumnShape], place: Place, nulls: Sequence[str]) -> dict[str, ColumnSpec]:
    return {name: _spec(columns[name], place, nulls) for name in sorted(columns)}


def _spec(shape: ColumnShape, place: Place, nulls: Sequence[str]) -> ColumnSpec:
    """The spec of a column; `nulls` are the job's own words for null."""
    wanted = kind(place, shape.type)
    return ColumnSpec(
        column=shape.column,
        constant=None if is_blank(shape.value) else json_text(shape.value, wanted),
        type=value_type(place, shape.type),
        transform=tuple(step.step() for step in shape.transform),
        default=None if is_blank(shape.default) else json_text(shape.default, wanted),
        null=shape.null,
        empty=shape.empty,
        too_long=shape.too_long,
        separator=shape.separator,
        mangled="reject" if shape.ids is None else shape.ids.mangled,
        nulls=()
        if shape.column is None
        else tuple(sorted({word.strip() for word in (*nulls, *shape.nulls)})),
        invalid=shape.invalid,
        timezone=shape.timezone,
        unit=shape.unit,
        decimal=shape.decimal,
        thousands=shape.thousands or "",
        strip=shape.strip or "",
        path=tuple(shape.path or ()),
        values=_words(shape.values or {}, wanted),
    )


def _words(values: Mapping[str, Any], wanted: Kind) -> tuple[tuple[str, str], ...]:
    """The words of a column, trimmed, with the JSON text of what each stands for."""
    meant = (
        (word.strip(), "null" if is_blank(value) else json_text(value, wanted))
        for word, value in values.items()
    )
    return tuple(sorted(meant))


def _spec_lines(identification: Identification, lines: Mapping[Path, int]) -> dict[str, int]:
    """The line of each column spec's column by the spec's path, and of `trust_status`."""
    paths: list[Path] = [(name,) for name in identification.fields]
    paths += [("groups", name) for name in identification.groups]
    for operator, properties in identification.operators.items():
        paths += [("user_properties", operator, name) for name in properties]
    found = ((path, line_of(("identification", *path, "column"), lines)) for path in paths)
    spec_lines = {".".join(map(str, path)): line for path, line in found if line is not None}
    trust = lines.get(("destination", "trust_status"))
    return spec_lines if trust is None else spec_lines | {"destination.trust_status": trust}
