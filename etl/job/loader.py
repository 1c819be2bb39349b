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
    """Make a job of what a job file would hold. Raises JobError; its faults tell paths."""
    tree, findings = tree_of(data)
    return _job(Document(tree, {}, findings), name="job", folder=folder, environ=environ)


def _job(document: Document, *, name: str, folder: pathlib.Path, environ: Mapping[str, str]) -> Job:
    checked = shape(document.data, environ)
    default, unnamed = _default_name(pathlib.PurePath(name).stem)
    ruled = [*job_findings(document.data), *([] if "name" in document.data else unnamed)]
    findings = [*document.findings, *ruled, *_more(checked, ruled)]
    if findings or not isinstance(checked, JobShape):
        raise JobError(name, faults(findings, document.lines), job=_stated_name(document) or default)
    return build(checked, name=default, file=name, folder=folder, lines=document.lines)


def _more(checked: JobShape | list[Finding], ruled: list[Finding]) -> list[Finding]:
    """What the door finds in places where no rule has said more."""
    if isinstance(checked, JobShape):
        return []
    places = {finding.path for finding in ruled}
    return [finding for finding in checked if finding.path not in places or not finding.path]


def _stated_name(document: Document) -> str | None:
    """The name that a file gives its job, also where the rest of it is wrong."""
    try:
        return job_name(str(document.data["name"]))
    except (KeyError, ValueError):
        return None


def _default_name(stem: str) -> tuple[str, list[Finding]]:
    """The name of a job that gives none, which is that of its file, and what is wrong with that."""
    try:
        return job_name(stem), []
    except ValueError as error:
        message = f"the file's name won't do for the job: a name {error}. Add a line `name: NAME`"
        return "", [Finding((), message)]


def _text(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        remedy = f"write one with: propsync init SOURCE -o {path}"
        raise UsageError(f"{path}: there is no such job file", hint=remedy) from error
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
