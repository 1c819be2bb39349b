"""What a column spec says about numbers in text, and which of it would have no effect.

The rules take any data: what has the wrong shape is passed over, as the door tells that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etl.job.findings import Finding, Path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.job.bare import Tree

_NUMERIC: Final = ("number", "integer")
_SIGNS: Final = ("decimal", "thousands", "strip")


def number_findings(spec: dict[str, Tree], place: str, path: Path) -> Iterator[Finding]:
    """Everything about `decimal`, `thousands` and `strip` that has no effect, or no sense."""
    kind = spec.get("type", "number" if place == "$add" else None)
    for key in (key for key in _SIGNS if key in spec):
        if "values" in spec:
            yield Finding((*path, key), f"`{key}` does nothing beside `values`: these say what each text is")
        elif kind not in _NUMERIC:
            yield Finding((*path, key), f"`{key}` does nothing without `type: number` or `type: integer`")
    thousands = spec.get("thousands")
    numeric = kind in _NUMERIC and "values" not in spec
    if numeric and isinstance(thousands, str) and thousands == spec.get("decimal", "."):
        message = f"`thousands` and `decimal` are both `{thousands}`; say which sign the other one is"
        yield Finding((*path, "thousands"), message)
