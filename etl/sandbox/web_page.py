"""The page of the sandbox for people: users, their profiles, requests, and faults on switches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .api_rules import BATCH, HTTP_V2, IDENTIFY, USER_PROFILE
from .profiles import property_changes, type_name
from .sandbox_options import SandboxError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .server import Sandbox

# The page asks no other address, and runs no script but the one that the package ships; the style sheet has
# icons as data.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, a browser hides the origin of the page's own forms
    "Cache-Control": "no-store",
}
_AMPLITUDE: Final = frozenset({IDENTIFY, BATCH, HTTP_V2, USER_PROFILE})
_OWN_HOST: Final = r"(?i:127\.0\.0\.1|localhost|\[::1\])(:\d+)?"
_OWN_SITES: Final = frozenset({"same-origin", "none"})  # of Sec-Fetch-Site; none: typed by a person
ASSETS: Final = Path(__file__).with_name("assets")
_USUAL_SHARE: Final = 20.0
_MOST_REQUESTS: Final = 20
_UNASKED: Final = 10  # users that are shown where nothing was typed
_FOUND: Final = 50  # users that are shown where something was
_MOST_PROPERTIES: Final = 500
_SHORT: Final = 80  # characters


@dataclass(frozen=True, slots=True)
class Trial:
    """What `propsync try` shows on the page: a title, lines about what it did, the command of a real run.

    `rows` has the values of the file by user and column.
    """

    title: str
    lines: tuple[str, ...] = ()
    command: str = ""
    rows: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def _inert(value: object) -> object:
    """Replace what can't be printed: marks that turn the reading direction would survive escaping."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in value)


def shown_value(value: object) -> str:
    """Write a value as JSON, on one line if that is short; a text as it is."""
    if isinstance(value, str):
        return value
    text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    if len(text) <= _SHORT:
        return text
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2).decode()


def clock_time(seconds: float) -> str:
    """Write a moment, in seconds since the epoch, as date and time in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    finalize=_inert,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_TEMPLATES.filters.update(number="{:,}".format, shown_value=shown_value, clock_time=clock_time)


@web.middleware
async def refuse_foreign(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Keep pages of other sites from the sandbox's own paths: they may neither read nor change anything.

    A browser says which page asks. A name that leads here and isn't this machine's would make any page the
    sandbox's own (DNS rebinding). Programs say nothing, and may do all.
    """
    reason = None
    if request.path not in _AMPLITUDE:
        site = request.headers.get("Sec-Fetch-Site", "none")
        origin = request.headers.get("Origin", f"http://{request.host}")
        if re.fullmatch(_OWN_HOST, request.host) is None:
            reason = "the sandbox answers only to 127.0.0.1 and localhost: open it by one of these"
        elif request.method == "POST" and (site not in _OWN_SITES or origin != f"http://{request.host}"):
            reason = "this came from a page of another site: use the sandbox's own page, or a program"
    if reason is None:
        return await handler(request)
    return web.Response(status=403, text=f"refused: {reason}\n", headers=_HEADERS)


class WebPage:
    """The pages of one sandbox and their paths. Plain links and forms do everything; htmx saves clicks."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.RouteDef | web.StaticDef]:
        """Return the paths of the page; none is one of Amplitude's."""
        return [
            web.get("/", self.overview),
            web.get("/user", self.profile),
            web.get("/properties", self.properties),
            web.get("/faults", self.faults),
            web.post("/faults", self.switch),
            web.static("/assets", ASSETS),
        ]

    async def overview(self, request: web.Request) -> web.Response:
        """`GET /`: counters, users by a part of their id, and the last requests."""
        profiles, text = self._sandbox.profiles, request.query.get("q", "").strip()
        most = _FOUND if text else _UNASKED
        users, devices = (
            one.search(text, most + 1) if text else list(islice(one, most + 1))
            for one in (profiles.users, profiles.devices)
        )
        return self._page(
            "overview.html",
            text=text,
            found=[(key, profiles.users[key]) for key in users[:most]],
            devices=[(key, profiles.devices[key]) for key in devices[:most]],
            more=max(len(users), len(devices)) > most,
            stats=self._sandbox.stats,
            recent=list(reversed(self._sandbox.journal.recent))[:_MOST_REQUESTS],
        )

    async def profile(self, request: web.Request) -> web.Response:
        """`GET /user?id=...` or `?device=...`: one profile, and how its properties changed."""
        profiles, user, device = self._sandbox.profiles, request.query.get("id"), request.query.get("device")
        found = profiles.find(user, device)
        if found is None:
            message = "There is no user or device with this id (any more)."
            return self._page("message.html", status=404, message=message)
        changes = property_changes(found.updates, found.properties)
        trial = self._sandbox.trial
        return self._page(
            "profile.html",
            profile=found,
            name=found.user_id if found.user_id is not None else found.device_ids[0],
            changes=changes,
            removed={n: c for n, c in changes.items() if n not in found.properties},
            row=trial.rows.get(found.user_id or "") if trial else None,
        )

    async def properties(self, _: web.Request) -> web.Response:
        """`GET /properties`: how filled each property is, and which types its values have."""
        found, others = self._sandbox.profiles.counts.largest(_MOST_PROPERTIES)
        return self._page("properties.html", found=found, others=others)

    async def switch(self, request: web.Request) -> web.Response:
        """`POST /faults`: obey the form."""
        form = await request.post()
        given = {name: str(value) for name, value in form.items()}
        shares = [f"{kind}:{given.get(f'share-{kind}', '')}%" for kind in map(str, form.getall("on", []))]
        try:
            if "forget" in given:
                self._sandbox.reset()
            elif "outage" in given:
                self._sandbox.change(outage=given["outage"] or None)
            else:
                self._sandbox.change(faults=shares, latency=f"{given.get('latency') or 0}ms")
        except SandboxError as error:
            return await self.faults(request, error)
        raise web.HTTPSeeOther("/faults")

    async def faults(self, _: web.Request, error: SandboxError | None = None) -> web.Response:
        """`GET /faults`: the switches, and what is wrong with the form that was sent."""
        options = self._sandbox.options
        shares = {str(rule).rpartition(":")[0]: rule.probability * 100 for rule in options.faults}
        outage = self._sandbox.outage
        return self._page(
            "faults.html",
            status=400 if error else 200,
            error=error,
            shares=shares,
            usual=_USUAL_SHARE,
            latency=options.latency * 1000,
            outage=outage and outage.kind,
        )

    def _page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        text = _TEMPLATES.get_template(template).render(
            profiles=self._sandbox.profiles,
            url=self._sandbox.url,
            trial=self._sandbox.trial,
            type_name=type_name,
            here=template,
            **values,
        )
        return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)
