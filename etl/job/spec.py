"""A job as frozen types: what the rest of the program knows of a job file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from etl.amplitude import TransportName

ValueType: TypeAlias = Literal["string", "number", "integer", "boolean", "date", "datetime", "list", "json"]
Verb: TypeAlias = Literal[
    "trim", "lower", "upper", "hex", "uuid", "sha256", "prefix", "replace", "date_format"
]
ChangesBy: TypeAlias = Literal["property", "user", "off"]
Absent: TypeAlias = Literal["keep", "unset"]
Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
Missing: TypeAlias = Literal["fail", "null"]
PartialFamilies: TypeAlias = Literal["refuse", "reset"]

DEFAULT_REGION: Final = "us"
DEFAULT_KEY_VARIABLE: Final = "AMPLITUDE_API_KEY"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a column's transform.

    `verb` is one of trim, lower, upper, hex, uuid, sha256, prefix, replace, date_format. `prefix` and
    `date_format` have one string in `argument`, `replace` has pairs (from, to) in `pairs`: wherever `from`
    stands in the value it becomes `to`, one pair after the other. `formats` has those of a `date_format`
    with several, of which the first that fits counts.
    """

    verb: Verb
    argument: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    formats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Where a value comes from and what is done to it: transform, then type, then default, then null policy.

    Exactly one of `column` and `constant` is given; `constant` is JSON text. `type` None keeps the source's
    type. `default` is JSON text and stands for a null; it is of the type already. `null: unset` puts the
    property under $unset. `mangled` is about ids: whether those are sent that something has spoilt.
    `nulls` are the trimmed texts that mean null, the job's own among them. `invalid` says what becomes of a
    value that doesn't fit: its row is a reject, or it is left out of it. `timezone` is that of times without
    one, and of days; `unit` is what numbers count since 1970. `decimal` and `thousands` ("" for none) are
    those of numbers in text, `strip` the characters that are taken off both ends first. `values` has for each
    trimmed text the JSON text that it stands for; other texts don't fit.
    `path` leads into a column of objects.
    """

    column: str | None = None
    constant: str | None = None
    type: ValueType | None = None
    transform: tuple[Step, ...] = ()
    default: str | None = None
    null: Literal["skip", "unset"] = "skip"
    empty: Literal["null", "keep"] = "null"
    too_long: Literal["reject", "truncate"] = "reject"
    separator: str = ","
    mangled: Literal["reject", "keep"] = "reject"
    nulls: tuple[str, ...] = ()
    invalid: Literal["reject", "skip"] = "reject"
    timezone: str | None = None
    unit: Unit | None = None
    decimal: str = "."
    thousands: str = ""
    strip: str = ""
    values: tuple[tuple[str, str], ...] = ()
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identification:
    """The identification with column specs in place of values.

    `fields` has the ids, the string fields and the `time` by their API names; `groups` by group type;
    `operators` by operator and property, in the order of amplitude.OPERATORS and without $unset and
    $clearAll, which are the same for every row: `unset` names the properties, `clear_all` says whether.
    """

    fields: Mapping[str, ColumnSpec]
    groups: Mapping[str, ColumnSpec] = field(default_factory=dict)
    operators: Mapping[str, Mapping[str, ColumnSpec]] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    clear_all: bool = False

    def specs(self) -> list[tuple[str, ColumnSpec]]:
        """Every column spec with its path in the job file, such as `user_properties.$set.plan`."""
        found = [(name, spec) for name, spec in self.fields.items()]
        found += [(f"groups.{name}", spec) for name, spec in self.groups.items()]
        for operator, properties in self.operators.items():
            found += [(f"user_properties.{operator}.{name}", spec) for name, spec in properties.items()]
        return found

    def columns(self) -> tuple[str, ...]:
        """The source columns that the identification needs, each once, in order of first use."""
        return tuple(dict.fromkeys(spec.column for _, spec in self.specs() if spec.column is not None))


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How CSV files are written. `delimiter` None: the likeliest of , ; tab | in the header line.

    `encoding` is the codec's name as Python spells it. `escape` "" means that no character escapes others.
    `header` has the names of the columns where the file has none, or is False where they go by their places,
    `1`, `2`, ... `skip_rows` lines stand above the header, or above the rows.
    """

    delimiter: str | None = None
    encoding: str = "utf-8"
    quote: str = '"'
    escape: str = ""
    header: tuple[str, ...] | Literal[False] | None = None
    skip_rows: int = 0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where identifications go. `endpoint` is a base URL without a slash at its end.

    With `trust_status` any 2xx is an acceptance, which only a relay of one's own may be trusted with.
    """

    endpoint: str
    transport: TransportName = "identify"
    trust_status: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What counts as a change since the last run, and what becomes of users who left.

    `by` property: only the properties that changed are sent; user: all of a user whose row changed; off:
    everything, and no snapshot is kept. A change in the source columns of `ignore` alone sends nothing.
    `absent` unset: the job's properties are unset for users of the snapshot who aren't in the export.
    """

    by: ChangesBy = "property"
    ignore: tuple[str, ...] = ()
    absent: Absent = "keep"


@dataclass(frozen=True, slots=True)
class Job:
    """A job, checked. `folder` is what relative sources are relative to; `state_dir` is its default.

    `missing` says what it means that some file lacks a column that others have.

    `file` is what messages call the job file, and `lines` has the 1-based line of each column spec by the
    path that Identification.specs gives it (and of `destination.trust_status`); both say where the job was
    written, and are no part of it.
    """

    name: str
    folder: Path
    source: tuple[str, ...]
    identification: Identification
    destination: Destination
    csv: CsvOptions = CsvOptions()
    changes: Changes = Changes()
    missing: Missing = "fail"
    transform: str | None = None
    api_key_env: str = DEFAULT_KEY_VARIABLE
    api_key_file: str | None = None
    partial_families: PartialFamilies = "refuse"
    file: str = field(default="job", compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, path: str | Path, *, environ: Mapping[str, str] | None = None) -> Job:
        """Read a job file. Raises JobError with all its faults, UsageError where it can't be read."""
        from etl.job.loader import load_job  # the loader makes jobs, and so imports this module

        return load_job(Path(path), environ=os.environ if environ is None else environ)

    @classmethod
    def of(cls, data: Mapping[str, object], *, folder: str | Path = ".") -> Job:
        """Make a job of the plain data that a job file would hold. Raises JobError with all its faults."""
        from etl.job.loader import job_from_dict

        return job_from_dict(data, folder=Path(folder))

    @property
    def state_dir(self) -> Path:
        """The default state folder, beside the job file."""
        return self.folder / ".propsync" / self.name
