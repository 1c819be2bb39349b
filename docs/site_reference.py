"""The pages of the site that are made from the code: commands, job file, library, events, exit codes."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import click


def reference_pages() -> Iterator[tuple[str, str]]:
    """The paths and the texts of the pages that are made from the code."""
    yield "reference/commands.md", _commands()
    yield "reference/library.md", _LIBRARY
    yield "reference/events.md", _events()
    yield "reference/job-keys.md", _job_keys()
    yield "reference/exit-codes.md", _exit_codes()
    yield "reference/metrics.md", _metrics()


_LIBRARY: Final = """# Library

[Use from Python](../library.md) has examples. Import these names from `propsync`, and the errors from
`propsync.errors`.

## Calls

::: etl.library
    options: {show_root_heading: false, show_root_toc_entry: false, heading_level: 3,
      members: [run, plan, baseline, explain, preview, verify]}

## Types

::: etl.job.spec.Job
    options: {merge_init_into_class: false, members: [load, of]}
::: etl.pipeline.settings.Settings
::: etl.pipeline.settings.RejectLimit
::: etl.pipeline.settings.RowMinimum
::: etl.run_events.Summary
::: etl.run_events.Timing
::: etl.tally.Tally
::: etl.pipeline.plan.Plan
::: etl.pipeline.preview.Explanation
::: etl.pipeline.diff_base.Recorded
::: etl.readback.Verified

## Errors

[Exit codes](exit-codes.md) has them all. Each has these:

::: etl.errors.EtlError
::: etl.errors.JobError
"""


def _commands() -> str:
    import click

    from etl.cli.app import propsync

    group = click.Context(propsync, info_name="propsync", **propsync.context_settings)
    own = [click.Context(one, info_name=name, parent=group) for name, one in propsync.commands.items()]
    return "# Commands\n\n" + "\n\n".join(_command(context) for context in (group, *own))


def _command(context: click.Context) -> str:
    """What `--help` says."""
    command = context.command
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    options = (
        (f"`{names}`", _plain(" ".join(told.split()))) for names, told in filter(None, records) if told
    )
    usage = command.get_usage(context).removeprefix("Usage: ")
    return f"""## {context.command_path}

```text
{usage}
```

{_paragraphs(command.help or "")}

{_table("option | meaning", options)}
{_paragraphs(command.epilog or "")}"""


def _paragraphs(told: str) -> str:
    """Paragraphs as text; those that keep their lines as a block below their first one."""
    done = []
    for paragraph in inspect.cleandoc(told).split("\n\n"):
        if paragraph.startswith("\b\n"):
            head, _, lines = paragraph.removeprefix("\b\n").partition("\n")
            done.append(f"**{head}**\n\n```text\n{textwrap.dedent(lines)}\n```")
        else:
            done.append(_plain(paragraph))
    return "\n\n".join(done)


def _plain(told: str) -> str:
    """The text with what Markdown would take for its own escaped, but for code in backticks."""
    return "".join(
        part if odd % 2 else re.sub(r"([*_<\[])", r"\\\1", part)
        for odd, part in enumerate(re.split(r"(`[^`]*`)", told))
    )


def _table(head: str, rows: Iterator[tuple[str, ...]]) -> str:
    columns = head.split(" | ")
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _events() -> str:
    from typing import get_args

    from etl.run_events import Event

    kinds = "\n".join(f"::: etl.run_events.{kind.__name__}" for kind in get_args(Event))
    return f"""# Events

A [listener](../library.md#listening) gets these, from `propsync.run_events`.

{kinds}
"""


def _exit_codes() -> str:
    from etl import errors
    from etl.cli.app import propsync

    meanings = dict(re.findall(r"^ +(\d+) +(\S.*(?:\n {7,}\S.*)*)$", propsync.help or "", re.MULTILINE))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    raised = [kind for kind in kinds if issubclass(kind, errors.EtlError) and kind is not errors.EtlError]
    rows = (
        (
            str(int(code)),
            f"`{code.name}`",
            _plain(" ".join(meanings[str(int(code))].split())),
            "<br>".join(f"`{kind.__name__}`" for kind in raised if kind.exit_code == code),
        )
        for code in errors.ExitCode
    )
    return f"""# Exit codes

[What to do](../running.md#exit-codes-and-what-to-do) about each of them. The names are those of
`propsync.errors.ExitCode`; the errors are what [a call in Python](../library.md#errors) raises instead.

{_table("code | name | meaning | errors", rows)}"""


def _metrics() -> str:
    from etl.listeners.metrics import MetricValues, metrics_text
    from etl.run_events import Summary, Timing
    from etl.tally import Tally

    timing, counts = Timing(latency=(0.1, 0.2, 0.3)), {"rejects_by_code": {"bad_number": 1}}
    skipped = {"mrr_usd": {"bad_number": 1}}
    summary = Summary("nightly", Tally(), 0.0, 0, "finished", **counts, skipped_values=skipped, timing=timing)
    every = MetricValues(summary, source_rows=1, exit_code=0, last_run=1.0, successes={"nightly": 1.0})
    text = metrics_text(every)
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helps = re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE)
    samples = dict(re.findall(r"^(\w+)\{(.*)\} ", text, re.MULTILINE))
    rows = (
        (f"`{name}`", kinds[name], ", ".join(re.findall(r'(\w+)="', samples[name])), told)
        for name, told in helps
    )
    return f"""# Metrics

`--metrics-file` writes these for the textfile collector of the Prometheus node exporter.
[Output, logs and metrics](../running.md#output-logs-and-metrics) has two alerts.

{_table("metric | type | labels | meaning", rows)}"""


def _job_keys() -> str:
    from etl.job.spec import job_schema

    schema = job_schema()
    parts = [f"## Top level\n\n{_key_table(schema, schema['$defs'])}"]
    for name, part in schema["$defs"].items():
        parts.append(
            f"## {name}\n\n{_plain(part.get('description', ''))}\n\n{_key_table(part, schema['$defs'])}"
        )
    about = (
        "Made from the JSON Schema that `propsync schema` prints. "
        "[The job file](../job-file.md) explains the keys, with examples."
    )
    return "# Keys of the job file\n\n" + "\n\n".join([about, *parts])


def _key_table(part: Mapping[str, Any], names: Mapping[str, Any]) -> str:
    required = part.get("required", ())
    rows = (
        (
            f"`{key}`" + (" (required)" if key in required else ""),
            _form(of, names),
            _code(of["default"]) if "default" in of else "",
            _plain(of.get("description", "")),
        )
        for key, of in part.get("properties", {}).items()
    )
    return _table("key | takes | default | meaning", rows)


def _form(of: Mapping[str, Any], names: Mapping[str, Any]) -> str:
    """What a key takes, in words."""
    if "$ref" in of:
        name = of["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in of:
        return ", ".join(_code(word) for word in of["enum"] if word is not None)
    if "anyOf" in of:
        return " or ".join(dict.fromkeys(_form(one, names) for one in of["anyOf"]))
    if of.get("type") == "array":
        return f"list of {_form(of['items'], names)}" if "items" in of else "list"
    if isinstance(of.get("additionalProperties"), Mapping):
        return f"mapping to {_form(of['additionalProperties'], names)}"
    kinds = of.get("type", "any value")
    return {"object": "mapping"}.get(kinds, kinds) if isinstance(kinds, str) else " or ".join(kinds)


def _code(value: object) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
