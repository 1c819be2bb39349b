"""HTML in which every text is escaped, because only `tag` makes what isn't."""

from __future__ import annotations

from html import escape
from typing import Final, TypeAlias

from etl.wording import printable

VOID: Final = frozenset({"meta", "rect"})


class Html(str):
    """Text that is markup already; made by `tag` and, for constants, by hand."""

    __slots__ = ()


Child: TypeAlias = "str | Html"


def tag(name: str, *children: Child, **attributes: str | float) -> Html:
    """Make an element. Children that aren't `Html` and all attributes are foreign text and are escaped.

    A `_` at an attribute's end is dropped (`class_`), others become `-`.
    """
    shown = "".join(_attribute(key, str(value)) for key, value in attributes.items())
    if name in VOID and not children:
        return Html(f"<{name}{shown}/>")
    return Html(f"<{name}{shown}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Html:
    """Put markup and text one after the other."""
    return Html("".join(child if isinstance(child, Html) else _safe(child) for child in children))


def _attribute(name: str, value: str) -> str:
    return f' {name.rstrip("_").replace("_", "-")}="{_safe(value)}"'


def _safe(text: str) -> str:
    # Marks that turn the reading direction would survive escaping.
    return escape(printable(text), quote=True)
