"""Bars as a picture: SVG that follows light and dark, with each value written at its bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LABELS, _ROW, _TOP = 760, 250, 30, 64
_STYLE = """
svg { background: #fff; font: 14px system-ui, sans-serif; }
text { fill: #222; } .small { fill: #666; } .bar { fill: #9aa7b5; } .own { fill: #1f6feb; }
@media (prefers-color-scheme: dark) {
  svg { background: #16191d; } text { fill: #e8e8e8; } .small { fill: #aaa; }
  .bar { fill: #59636e; } .own { fill: #4c8dff; }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its length, what stands before it, and what stands behind it; `own` ones are coloured."""

    label: str
    value: float
    text: str
    own: bool = True


def bars(title: str, subtitle: str, given: Sequence[Bar]) -> str:
    """A picture of at least one bar; their lengths begin at nought, on one scale."""
    height = _TOP + _ROW * len(given) + 10
    longest = max(bar.value for bar in given)
    space = _WIDTH - _LABELS - 150
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        f' aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text x="16" y="26" font-size="17" font-weight="600">{escape(title)}</text>',
        f'<text x="16" y="46" class="small">{escape(subtitle)}</text>',
    ]
    for number, bar in enumerate(given):
        top, length = _TOP + _ROW * number, max(2.0, bar.value / longest * space)
        kind = "own" if bar.own else "bar"
        lines += [
            f'<text x="{_LABELS - 8}" y="{top + 16}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{_LABELS}" y="{top}" width="{length:.1f}" height="22" rx="3" class="{kind}"/>',
            f'<text x="{_LABELS + length + 8:.1f}" y="{top + 16}">{escape(bar.text)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
