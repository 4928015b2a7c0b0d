"""Which web pages may use the gateway from a browser: none, unless the operator lists them.

A browser asks beforehand whether a page may send a key along, and shows the page an
answer only where the answer says that it may. Cookies are never meant: who asks is in
`authorization`, so nothing here allows credentials.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from helexa.util.asgi import App, Receive, Scope, Send, cycle_of

ANYBODY: Final = "*"
MAX_AGE_S: Final = 7200
"""How long a browser remembers; the longest that Chromium does."""
METHODS: Final = b"GET, POST, DELETE"
EXPOSED: Final = (
    "x-request-id",
    "request-id",
    "x-helexa-request-id",
    "x-helexa-served-by",
    "x-helexa-queue-ms",
    "x-helexa-price",
    "x-helexa-model",
    "x-helexa-attempts",
    "x-helexa-source",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "retry-after",
)
"""What a page's script may read of an answer besides the body; `*` would not do with a key."""

_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2048}\Z")


class Cors:
    """An app around one that knows nothing of browsers. Requests without an origin pass by."""

    def __init__(self, app: App, origins: Sequence[str]) -> None:
        self._app = app
        self._anybody = ANYBODY in origins
        self._origins = frozenset(one.encode() for one in origins)
        self._exposed = f"access-control-expose-headers: {', '.join(EXPOSED)}\r\n".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = asked = names = None
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value
            elif name == b"access-control-request-method":
                asked = value
            elif name == b"access-control-request-headers":
                names = value
        vary = b"" if self._anybody else b"vary: origin\r\n"
        cycle = cycle_of(scope)
        if origin is None or not self._allows(origin):
            cycle.more_lines = vary
            await self._app(scope, receive, send)
            return
        allowed = b"*" if self._anybody else origin
        lines = b"access-control-allow-origin: %s\r\n%s" % (allowed, vary)
        if scope["method"] != "OPTIONS" or asked is None:
            cycle.more_lines = lines + self._exposed
            await self._app(scope, receive, send)
            return
        lines += b"access-control-allow-methods: %s\r\naccess-control-max-age: %d\r\n" % (
            METHODS,
            MAX_AGE_S,
        )
        if names is not None and _HEADER_NAMES.match(names):
            # All that it wants: what a header may say is judged when it comes.
            lines += b"access-control-allow-headers: %s\r\n" % names
        cycle.more_lines = lines
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _allows(self, origin: bytes) -> bool:
        return self._anybody or origin in self._origins
