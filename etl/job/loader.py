"""A job file becomes a Job, or one error with all its faults, each with its line."""

from __future__ import annotations

import pathlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from etl.errors import Fault, JobError, UsageError
from etl.job.build import build
from etl.job.document import MAX_CHARACTERS, read_document
from etl.job.door import shape
from etl.job.findings import Finding, faults
from etl.job.notation import job_name
from etl.job.plain_data import tree_of
from etl.job.rules import job_findings
from etl.job.schema import JobShape
from etl.job.tree import Document, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.job.bare import Tree
    from etl.job.spec import Job

MAX_BYTES: Final = 4 * MAX_CHARACTERS
NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})


def load_job(path: pathlib.Path, *, environ: Mapping[str, str]) -> Job:
    """Load the job file at `path`; sources are relative to its folder.

    `environ` are the variables that `${VAR}` may name. Raises UsageError where there is no file to read, and
    JobError with all faults of the file.
    """
    return parse_job(_text(path), name=str(path), folder=path.parent, environ=environ)


def parse_job(
    text: str, *, name: str, folder: pathlib.Path, environ: Mapping[str, str] = NO_VARIABLES
) -> Job:
    """Make a job of the YAML or JSON text of a job file.

    `name` is what messages call the file; the job's name is its stem unless the text gives one. Raises
    JobError with all faults.
    """
    try:
        document = read_document(text)
    except UnreadableError as error:
        raise JobError(name, faults([error.finding], {})) from error
    return _job(document, name=name, folder=folder, environ=environ)


def job_from_dict(
    data: Mapping[str, object],
    *,
    folder: pathlib.Path = pathlib.Path(),
    environ: Mapping[str, str] = NO_VARIABLES,
) -> Job:
    """Make a job of what a job file would hold. Raises JobError with all faults, which tell paths, not lines."""
    tree, findings = tree_of(data)
    return _job(Document(tree, {}, findings), name="job", folder=folder, environ=environ)


def _job(document: Document, *, name: str, folder: pathlib.Path, environ: Mapping[str, str]) -> Job:
    checked = shape(document.data, environ)
    stem = pathlib.PurePath(name).stem
    findings = [*document.findings, *job_findings(document.data), *_stem_findings(stem, document.data)]
    if not isinstance(checked, JobShape):
        # A rule says more of a place than the door does.
        ruled = {finding.path for finding in findings}
        findings += [finding for finding in checked if finding.path not in ruled or not finding.path]
    if findings or not isinstance(checked, JobShape):
        raise JobError(name, faults(findings, document.lines))
    return build(checked, name=job_name(stem), file=name, folder=folder, lines=document.lines)


def _stem_findings(stem: str, data: Mapping[str, Tree]) -> list[Finding]:
    """A job without a name goes by its file's, which must then do for a folder's name."""
    if "name" in data:
        return []
    try:
        job_name(stem)
    except ValueError as error:
        return [
            Finding((), f"the job can't go by the file's name, as a name {error}; add a line `name: NAME`")
        ]
    return []


def _text(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(
            f"{path}: there is no such job file", hint=f"write one with: propsync init SOURCE -o {path}"
        ) from error
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a folder, not a job file", hint="give the job file in it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{path}: the job file can't be read: {reason}", hint="check its name and rights"
        ) from error
    return _decoded(content, str(path))


def _decoded(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end >= MAX_BYTES:  # cut in a character: the length is the fault
            return content.decode("utf-8", "replace")
        line = content.count(b"\n", 0, error.start) + 1
        message = "the file isn't UTF-8 text from here on; save it as UTF-8"
        raise JobError(file, [Fault(message, line)]) from error
