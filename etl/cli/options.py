"""The arguments and options that several commands share, and how they become a job, a source and settings."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import reduce
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click
from click.core import ParameterSource

from ..errors import EtlError, UsageError
from ..job.run_options import PATTERNS, RUN_OPTIONS, RunOption
from ..process import allow_pandas
from .console import current, is_stdout

if TYPE_CHECKING:
    from ..job.known_job import KnownJob
    from ..job.spec import Job
    from ..listeners.notifier import Target
    from ..pipeline.settings import RejectLimit, RowMinimum, Settings
    from ..reader import Source

Decorator: TypeAlias = Callable[[Any], Any]

# Options that are files to write; paths, which a job file has relative to itself; and what only `run` writes.
_WRITTEN = tuple(name for name, one in RUN_OPTIONS.items() if one.kind in {"output", "page", "list"})
_PATHS = {*_WRITTEN, *(name for name, one in RUN_OPTIONS.items() if one.kind in {"file", "folder"})}
_OUTPUTS = {*_WRITTEN, "log_format", "json", "notify", "notify_when"}
# The variables that count in every command.
_VARIABLES = {"endpoint": "PROPSYNC_ENDPOINT", "state_dir": "PROPSYNC_STATE_DIR"}
_FILES = ("output", "save", *_WRITTEN)  # what a command writes over
_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


# --- values of options: a wrong one is refused with an example --------------------------------------------


def parse_duration(text: str) -> float:
    """Read `90s`, `30m`, `2h`, `500ms` or a plain number of seconds as seconds."""
    match = re.fullmatch(PATTERNS["duration"][0], text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration; use e.g. 90s, 30m or 2h")
    return float(match[1]) * _UNITS[match[2]]


def parse_rate(text: str) -> float:
    """Read a number above 0; `max` is infinity."""
    if not re.fullmatch(PATTERNS["rate"][0], text):
        raise click.BadParameter(f"{text!r} is not a rate; use a number above 0, or max")
    return inf if text == "max" else float(text)


def parse_endpoint(text: str) -> str:
    """Read a base URL or the name of a region; a wrong one isn't shown, as it may hold a password."""
    from ..job.words import endpoint

    try:
        return endpoint(text)
    except ValueError as error:
        raise click.BadParameter(f"it {error}; use e.g. https://api2.amplitude.com") from error


def parse_amount(text: str, kind: str, problem: str) -> dict[str, Any]:
    """Read `1000` or `90%` as the `count` or the `percent` of a limit of this kind."""
    amount = text.strip()
    if not re.fullmatch(PATTERNS[kind][0], amount):
        raise click.BadParameter(f"{text!r} is not {problem}")
    number = amount.removesuffix("%")
    return {"count": int(number)} if number == amount else {"percent": float(number)}


def parse_percent(text: str) -> float:
    """Read `5%` or `0.5%` as a percentage."""
    return float(parse_amount(text, "share", "a share; use e.g. 50%")["percent"])


def parse_row_minimum(text: str) -> RowMinimum:
    """Read `1000` rows or `90%` of the last run's rows."""
    from ..pipeline.settings import RowMinimum

    problem = "a minimum; use rows like 1000, or a share like 90%"
    return RowMinimum(**parse_amount(text, "row minimum", problem))


def parse_reject_limit(text: str) -> RejectLimit:
    """Read `100` rows or `0.5%` of the rows."""
    from ..pipeline.settings import RejectLimit

    problem = "a limit; use rows like 100, or a share like 0.5%"
    return RejectLimit(**parse_amount(text, "reject limit", problem))


def parse_rejects_path(text: str) -> Path:
    """Read the name of a file for rejects, which tells their format."""
    if not re.fullmatch(PATTERNS["list"][0], text):
        raise click.BadParameter(f"{text!r} must end in .csv or .ndjson, which tells the format")
    return Path(text)


def parse_notify(text: str) -> Target:
    """Read whom to tell of a run; from now on no message shows the URL."""
    from ..listeners.notifier import notify_target

    try:
        target = notify_target(text)
    except UsageError as error:
        raise click.BadParameter(f"{error.message}; {error.hint}") from error
    current().secrets.extend(target.secrets)
    return target


# --- the options ------------------------------------------------------------------------------------------


class _Option(click.Option):
    """An option whose errors name the variable, if the value comes from one."""

    def get_error_hint(self, ctx: click.Context | None, /) -> str:
        source = ctx and self.name and ctx.get_parameter_source(self.name)
        return str(self.envvar) if source is ParameterSource.ENVIRONMENT else super().get_error_hint(ctx)


class _OutputFile(click.Path):
    """A file that is written beside the results on stdout."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if is_stdout(value):
            self.fail("- is the standard output, which has other results; name a file", param, ctx)
        return super().convert(value, param, ctx)


def option(flag: str, metavar: str | None, type: Any, text: str, **more: Any) -> Decorator:  # noqa: A002
    """Make an option of click with its help, which shows the default if there is one."""
    shown = "default" in more
    return click.option(flag, cls=_Option, metavar=metavar, type=type, help=text, show_default=shown, **more)


def switch(flag: str, text: str, *name: str) -> Decorator:
    """Make an option that is on or off, whose parameter may have a name of its own."""
    return click.option(flag, *name, cls=_Option, is_flag=True, help=text)


def command(name: str, *, variables: bool = False, **more: Any) -> Decorator:
    """Make a command of click whose docstring is its help.

    The first paragraph that has indented lines, such as examples, stands below the options with all that
    follows; such paragraphs keep their lines. With `variables`, those such as PROPSYNC_RATE stand for options
    that are not given.
    """

    def decorate(function: Any) -> Any:
        told = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        first = next((place for place, paragraph in enumerate(told) if "\n  " in paragraph), len(told))
        below = (f"\b\n{paragraph}" if "\n  " in paragraph else paragraph for paragraph in told[first:])
        texts: dict[str, Any] = {"help": "\n\n".join(told[:first]), "epilog": "\n\n".join(below)}
        make: Decorator = click.command(name, **texts, **more)
        made = make(function)
        for key, parameter in _with_keys(made) if variables else ():
            if isinstance(parameter, click.Option):
                parameter.envvar = parameter.envvar or f"PROPSYNC_{key.upper()}"
        return made

    return decorate


def with_options(*options: Decorator) -> Decorator:
    """Make a decorator that adds options, shown in this order."""
    return lambda command: reduce(lambda made, add: add(made), reversed(options), command)


PATH, OUTPUT = click.Path(path_type=Path), _OutputFile(path_type=Path)
JOB = click.argument("job", type=PATH)
JOB_AND_SOURCES = with_options(JOB, click.argument("sources", nargs=-1, metavar="[SOURCE]..."))
JSON_FLAG = switch("--json", "Print one JSON object on stdout.", "as_json")
# What an option of a kind takes, and how its help calls that.
_TYPES: Final[Mapping[str, tuple[str | None, Any]]] = {
    "rate": ("N|max", parse_rate),
    "share": ("P%", parse_percent),
    "reject limit": ("N|P%", parse_reject_limit),
    "row minimum": ("N|P%", parse_row_minimum),
    "duration": ("DURATION", parse_duration),
    "seconds": ("SECONDS", parse_duration),
    "list": ("FILE.csv|.ndjson", parse_rejects_path),
    "url": ("URL", parse_endpoint),
    "target": ("URL", parse_notify),
    "file": ("FILE", PATH),
    "output": ("FILE", OUTPUT),
    "page": ("FILE.html", OUTPUT),
    "folder": (None, click.Path(path_type=Path, file_okay=False)),
}


def form_of(one: RunOption) -> tuple[str | None, Any]:
    """Return how the help calls the value of an option, and what reads its text."""
    if one.kind == "count":
        return "N", click.IntRange(1, one.most)
    choices = None, click.Choice(one.kind.split("|"))
    return (None, click.BOOL) if one.kind == "flag" else _TYPES.get(one.kind, choices)


def run_options(*names: str) -> Decorator:
    """Make a decorator that adds these options of `run`, or all of them, in the order of the table."""
    made = []
    for name in names or RUN_OPTIONS:
        one, flag = RUN_OPTIONS[name], f"--{name.replace('_', '-')}"
        text = f"{one.text}  [default: {one.usual}]" if one.usual else one.text
        if one.kind == "flag":
            made.append(switch(flag, text, *(["as_json"] if name == "json" else [])))
            continue
        more: dict[str, Any] = {} if one.default is None else {"default": one.default}
        made.append(option(flag, *form_of(one), text, envvar=_VARIABLES.get(name), **more))
    return with_options(*made)


STATE_DIR, PLACES = run_options("state_dir"), run_options(*_VARIABLES)


# --- what they become -------------------------------------------------------------------------------------


def _with_keys(command: click.Command) -> Iterator[tuple[str, click.Parameter]]:
    """The parameters of a command by their names in a job file, but for what only `run` writes."""
    for parameter in command.params:
        key = parameter.opts[0].removeprefix("--").replace("-", "_")
        if command.name == "run" or key not in _OUTPUTS:
            yield key, parameter


def load_for_command(job_file: Path, flags: dict[str, Any]) -> tuple[Job, dict[str, Any]]:
    """Load the job; return it, and these flags with the options of its `run` where nobody gave others."""
    from ..errors import Fault, JobError
    from ..job.spec import Job

    context, job, found = click.get_current_context(), Job.load(job_file), dict(flags)
    current().set_job(job)
    for key, parameter in _with_keys(context.command):
        name, value = str(parameter.name), job.run.get(key)
        is_given = context.get_parameter_source(name) is not ParameterSource.DEFAULT
        if value is None or name not in flags or is_given:
            continue
        try:
            given = str(job.folder / value) if key in _PATHS else value
            found[name] = parameter.type_cast_value(context, given)
        except click.BadParameter as error:
            fault = Fault(f"`run.{key}`: {error.message}", job.lines.get(f"run.{key}"))
            raise JobError(job.file, [fault], job=job.name) from error
    return job, found


def know_job(job_file: Path, state_dir: Path | None) -> KnownJob:
    """Find out what a short command needs of a job: what a run left of it, or else by loading it."""
    from ..job.known_job import KnownJob

    known = KnownJob.find(job_file, state_dir, os.environ)
    if known is not None:
        current().set_job(known)
    else:
        loaded, flags = load_for_command(job_file, {"state_dir": state_dir})
        known, state_dir = KnownJob.of(loaded), flags["state_dir"]
    return known if state_dir is None else known._replace(state_dir=state_dir)


def spare_inputs(
    flags: dict[str, Any], sources: tuple[str, ...], job: Job | None = None, job_file: Path | None = None
) -> None:
    """Raise UsageError if an output is the job file or a file of the source; its flag becomes None."""
    outputs = {name: path for name in _FILES if (path := flags.get(name)) is not None and path.exists()}
    if not outputs:
        return
    from ..reader.discovery import find_files

    inputs = {job_file: "the job file"} if job_file else {}
    folder = job.folder if job and not sources else Path()
    for place in sources or (job.source if job else ()):
        with suppress(EtlError):  # what is wrong with a source is told when it is opened
            found = [] if "://" in place else find_files(place, folder)
            inputs |= {file.local_path: "a file of the source" for file in found if file.local_path}
    for name, path in outputs.items():
        for one, what in inputs.items():
            if one.exists() and path.samefile(one):
                flags[name] = None
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag} would replace {what}, {path}", hint="name another file")


def open_job_source(job: Job, sources: tuple[str, ...]) -> Source:
    """Open a job's source; sources of the command line are relative to the working directory."""
    from ..job.loading import is_job_file
    from ..reader import open_source

    if job.transform:
        allow_pandas()
    for place in sources:
        if is_job_file(Path(place)):
            raise UsageError(
                f"{place} is a job file, and no source: a command takes one job, and the sources behind it",
                hint=f"name the source in it, and run it by itself: propsync run {shlex.quote(place)}",
            )
    given, folder = (sources, Path()) if sources else (job.source, job.folder)
    if not given:
        raise UsageError(
            f"{job.file} has no source", hint="add `source:` to it, or name one after it in the command"
        )
    return open_source(given, folder=folder, **job.file_options)


def settings_of(**flags: Any) -> Settings:
    """Turn flags into settings; without a limit on identifications there is none on requests unless given."""
    from ..pipeline.settings import Settings
    from ..sender import Backoff

    given = {name: value for name, value in flags.items() if value is not None}
    if given["rate"] == inf:
        given.setdefault("requests_per_second", inf)
    pauses = {name: given.pop(f"{name}_wait") for name in ("retry", "throttle") if f"{name}_wait" in given}
    if "processes" in given:
        given["processes"] = int(given["processes"])
    unlimited = {name: None for name in ("rate", "requests_per_second") if given.get(name) == inf}
    return Settings(backoff=Backoff(**pauses), **given | unlimited)
