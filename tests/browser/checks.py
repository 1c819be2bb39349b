"""What must hold of every page: quiet, inert, readable, named, and never wider than the window."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

WIDTHS = (400, 1000, 1600)
SCHEMES = ("light", "dark")
SECONDS = 10_000  # milliseconds that anything may take
# Each would set `window.struck` if it came alive; the long ones and the marks of direction may only be text.
HOSTILE = (
    "<script>window.struck = 1</script>",
    "\"'><img src=x onerror='window.struck = 1'>",
    "</td></table></main><h1>x",
    "javascript:window.struck=1",
    "\u202egnp.exe\u2066",
    "\u05d0\u05d1\u05d2 \u05d3\u05d4",
    "null\x00byte",
    "w" * 10_000,
    "many words " * 1000,
)

_FAULTS = """() => {
  const faults = [];
  const shown = one => one.getClientRects().length > 0 && getComputedStyle(one).visibility !== "hidden";
  const labels = one => (one.getAttribute("aria-labelledby") || "").split(" ");
  const name = one => [
    one.getAttribute("aria-label"),
    ...labels(one).map(id => document.getElementById(id)?.textContent),
    ...[...(one.labels || [])].map(label => label.textContent),
    one.matches("input") ? "" : one.textContent,
  ].join("").trim();
  const controls = "a,button,input,select,textarea,summary,meter,nav,[tabindex='0']";
  for (const one of document.querySelectorAll(controls))
    if (!name(one) && one.type !== "hidden") faults.push("no name: " + one.outerHTML.slice(0, 80));
  let last = 0;
  for (const one of document.querySelectorAll("h1,h2,h3,h4,h5,h6")) {
    const level = +one.tagName[1];
    if (level > last + 1) faults.push("heading out of order: " + one.outerHTML.slice(0, 80));
    last = level;
  }
  for (const only of ["main", "h1", "title"])
    if (document.querySelectorAll(only).length !== 1) faults.push("not one " + only);
  if (!document.documentElement.lang) faults.push("no lang");
  const ids = [...document.querySelectorAll("[id]")].map(one => one.id);
  if (new Set(ids).size !== ids.length) faults.push("an id twice");

  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const paint = colour => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return light(canvas.getImageData(0, 0, 1, 1).data);
  };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const seen = new Set();
  for (const one of document.querySelectorAll("body *")) {
    const text = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!text || !shown(one) || one.closest("svg") || one.closest(".skip")) continue;
    const style = getComputedStyle(one), chain = [];
    for (let up = one; up; up = up.parentElement) chain.unshift(getComputedStyle(up).backgroundColor);
    paint(dark ? "#121212" : "#ffffff");
    const back = chain.map(paint).pop(), front = paint(style.color);
    const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) seen.add(`contrast ${ratio.toFixed(2)}: ${one.tagName}.${one.className}`);
  }
  return [...faults, ...seen];
}"""


class Watched:
    """A page and all that it asked for and complained about since it was opened."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.noise: list[str] = []
        self._home = urlsplit(url)[:2]
        page.set_default_timeout(SECONDS)
        page.on("request", lambda request: self._asked(request.url))
        page.on("console", lambda message: self._told(message.type, message.text))
        page.on("pageerror", lambda error: self.noise.append(f"error: {error}"))
        page.on("dialog", self._interrupted)
        page.goto(url)

    def _asked(self, url: str) -> None:
        if urlsplit(url)[:2] != self._home and not url.startswith("data:"):
            self.noise.append(f"asked: {url}")

    def _told(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.noise.append(f"{kind}: {text}")

    def _interrupted(self, dialog: Any) -> None:
        self.noise.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def check_quiet(self) -> None:
        """It asked nobody else, obeyed its Content-Security-Policy, and nothing foreign came alive."""
        assert self.page.evaluate("window.struck") is None
        assert not self.noise, self.noise

    def check_readable(self) -> None:
        """Names, headings, landmarks and contrast; and it fits all windows, in light and dark."""
        for scheme in SCHEMES:
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for width in WIDTHS:
                self.page.set_viewport_size({"width": width, "height": 900})
                wide = self.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{self.page.url}: {wide} pixels wide in a window of {width}"
            faults = self.page.evaluate(_FAULTS)
            assert not faults, f"{self.page.url} in {scheme}: {faults}"

    def tab_to(self, selector: str) -> None:
        """Go to an element by the Tab key alone, where it must be seen to have the focus."""
        for _ in range(80):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
                style = self.page.evaluate(
                    "(({outlineStyle, boxShadow}) => outlineStyle + boxShadow)"
                    "(getComputedStyle(document.activeElement))"
                )
                assert style != "nonenone", f"the focus on {selector} isn't seen"
                return
        raise AssertionError(f"Tab doesn't reach {selector}")
