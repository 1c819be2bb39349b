"""Steps and keys of a column spec that can have no effect, since others take it away.

The rules take any data: what has the wrong shape is passed over, as the door tells that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etl.job.findings import Finding, Path, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.job.bare import Tree

_CASES: Final = ("lower", "upper")
# What these give is in lower case and without spaces.
_PLAIN: Final = ("sha256", "hex", "uuid")
_ANY_CASE: Final = ("number", "integer", "boolean")
_SHORT: Final = (*_ANY_CASE, "date", "datetime")


def step_findings(spec: dict[str, Tree], path: Path) -> Iterator[Finding]:
    """Everything about steps and `too_long` that has no effect."""
    given = spec.get("transform")
    steps = given if isinstance(given, list) else [given]
    for number, step in enumerate(steps):
        after = steps[number + 1] if number + 1 < len(steps) else None
        if fault := _idle(step, steps[number - 1] if number else None, after, spec):
            place = (*path, "transform", number) if isinstance(given, list) else (*path, "transform")
            yield Finding(place, fault)
    kind = spec.get("type")
    if "too_long" in spec and kind in _SHORT:
        yield Finding(
            (*path, "too_long"), f"`too_long` does nothing with `type: {kind}`, which is never long"
        )


def _idle(step: Tree, before: Tree, after: Tree, spec: dict[str, Tree]) -> str | None:
    if isinstance(step, dict):
        pairs = step.get("replace")
        same = [one for one, other in pairs.items() if one == other] if isinstance(pairs, dict) else []
        return f"`replace` puts `{shown(same[0])}` in place of itself" if same else None
    if step not in (*_CASES, "trim"):
        return None
    if before == step:
        return f"`{step}` does nothing after `{step}`"
    if step in _CASES and after in _CASES and after != step:
        return f"`{step}` does nothing before `{after}`"
    if before in _PLAIN and step != "upper":
        return f"`{step}` does nothing after `{before}`, which gives lower case without spaces"
    read = spec.get("type") in _ANY_CASE and "values" not in spec and "strip" not in spec
    if step in _CASES and after is None and read:
        return f"`{step}` does nothing before `type: {spec['type']}`, which reads any case"
    return None
