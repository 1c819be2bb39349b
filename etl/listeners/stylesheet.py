"""How the report looks: light and dark after the reader's system, on screen and on paper."""

from __future__ import annotations

from typing import Final

STYLESHEET: Final = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --line: #dfe3e8; --text: #1b2430; --soft: #5b6775;
  --accepted: #1f8a70; --unchanged: #8fa3b8; --merged: #d9982b; --rejected: #c9412f; --open: #e4e8ed;
  --good: #e1f3ec; --good-text: #11614d; --fair: #fdf0d9; --fair-text: #7a4f06;
  --bad: #fbe3df; --bad-text: #96261a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1a2028; --line: #2d3641; --text: #e6eaf0; --soft: #98a5b4;
    --accepted: #35b394; --unchanged: #64788e; --merged: #e0aa4c; --rejected: #e5695a; --open: #2a323d;
    --good: #163a31; --good-text: #7fdcc2; --fair: #40300f; --fair-text: #f2c777;
    --bad: #47201b; --bad-text: #f7a79c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 56rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 1rem; font-size: 1.05rem; }
p { margin: 0 0 .75rem; }
p:last-child { margin-bottom: 0; }
header { margin-bottom: 1.5rem; }
header div { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem .9rem; margin-bottom: .5rem; }
header p { color: var(--soft); overflow-wrap: anywhere; margin: 0; }
section, aside {
  margin-top: 1rem; padding: 1.35rem 1.5rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; break-inside: avoid;
}
aside { border-left: 4px solid var(--merged); }
.status { padding: .15rem .75rem; border-radius: 1rem; font-size: .9rem; font-weight: 600; }
.good { background: var(--good); color: var(--good-text); }
.fair { background: var(--fair); color: var(--fair-text); }
.bad { background: var(--bad); color: var(--bad-text); }
.total { font-size: 2.1rem; font-weight: 650; line-height: 1.15; font-variant-numeric: tabular-nums; }
.soft { color: var(--soft); }
svg {
  display: block; width: 100%; height: 26px; margin: 1.1rem 0 1.2rem; border-radius: 6px; overflow: hidden;
}
.accepted { fill: var(--accepted); } .unchanged { fill: var(--unchanged); } .merged { fill: var(--merged); }
.rejected { fill: var(--rejected); } .open { fill: var(--open); }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td {
  padding: .5rem 0 .5rem 1rem; border-top: 1px solid var(--line); text-align: right; vertical-align: top;
  white-space: nowrap;
}
th:nth-child(n + 2), td:nth-child(n + 2) { width: 6.5rem; }
th { color: var(--soft); font-weight: 500; font-size: .9rem; }
tr:first-child > * { border-top: 0; }
th:first-child, td:first-child {
  padding-left: 0; text-align: left; white-space: normal; overflow-wrap: anywhere;
}
td svg {
  display: inline-block; width: .8rem; height: .8rem; margin: 0 .6rem 0 0; border-radius: 3px;
  vertical-align: -.05rem;
}
td small { display: block; padding-left: 1.4rem; color: var(--soft); font-size: .85rem; }
dl {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1.1rem 1.5rem; margin: 0;
}
dt { color: var(--soft); font-size: .9rem; }
dd { margin: 0; font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums; }
ul { margin: 0; padding-left: 1.2rem; }
li { margin-bottom: .4rem; overflow-wrap: anywhere; }
code {
  font: .92em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere;
}
pre {
  margin: .75rem 0 0; padding: .75rem 1rem; background: var(--page); border-radius: 6px;
  white-space: pre-wrap;
}
footer { margin-top: 1.5rem; color: var(--soft); font-size: .85rem; }
@media print {
  body { padding: 0; }
  svg, .status { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
