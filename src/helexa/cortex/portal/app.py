"""The portal's ASGI application: server-rendered, no script, strict content policy.

It shows the fleet as the orchestrator believes it at that moment; nothing on the
page is written down twice, so nothing can be out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import jinja2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from helexa.cortex.portal.overview import Overview
from helexa.util.units import format_bytes, format_seconds

_FOLDER: Final = Path(__file__).parent
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}\Z|\[[0-9A-Fa-f:.]{2,45}\]\Z")

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def portal(overview: Callable[[str], Overview]) -> Starlette:
    """`overview(host)` gives the page's facts, its URLs written for a visitor who used `host`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bytes"] = format_bytes
    environment.filters["seconds"] = format_seconds
    environment.filters["count"] = _count
    page = environment.get_template("home.html")

    async def home(request: Request) -> Response:
        facts = overview(_host_of(request))
        return HTMLResponse(page.render(facts=facts), headers=dict(SECURITY_HEADERS))

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def missing(request: Request, _error: Exception) -> Response:
        body = environment.get_template("missing.html").render(path=request.url.path[:200])
        return HTMLResponse(body, 404, headers=dict(SECURITY_HEADERS))

    handlers: dict[Any, Any] = {404: missing}
    return Starlette(
        routes=[
            Route("/", home),
            Route("/healthz", healthz),
            Mount("/static", StaticFiles(directory=_FOLDER / "static")),
        ],
        exception_handlers=handlers,
    )


def _host_of(request: Request) -> str:
    """The host name that the visitor used, or loopback when the header is no host name."""
    given = request.headers.get("host", "")
    host = given.rpartition(":")[0] if re.search(r":\d+\Z", given) else given
    return host if _HOST.match(host) else "127.0.0.1"


def _count(number: int) -> str:
    """770000 -> `770 k`."""
    for limit, suffix in ((10**9, " B"), (10**6, " M"), (10**3, " k")):
        if number >= limit:
            return f"{number / limit:.3g}{suffix}"
    return str(number)
