"""The URL of a server, taken apart: where to connect, and what comes before each path.

An operator copies it out of some documentation, so what is commonly copied along - a
whole endpoint, a user's name, a query - is refused with the words that help.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from helexa.runtime.contract import Endpoint
from helexa.util.dialling import Tcp

_PORTS: Final = {"http": 80, "https": 443}
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?\Z")
_PATH: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*\Z")
_ENDPOINTS: Final = ("/chat/completions", "/completions", "/embeddings", "/models", "/rerank")
_VERSION: Final = "/v1"
"""Where helexa and most others have their paths; a base takes its place."""


class UrlRefused(ValueError):
    """Says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Place:
    host: str
    port: int
    is_tls: bool
    base: str
    """Before `/chat/completions`; without a slash at its end, empty for none."""

    @property
    def reach(self) -> Tcp:
        return Tcp(self.host, self.port, tls=_trust() if self.is_tls else None)

    @property
    def root(self) -> str:
        """Before the paths that are a server's own, such as `/api/show`."""
        return self.base.removesuffix(_VERSION)

    def path(self, endpoint: Endpoint) -> str:
        return self.base + endpoint.value.removeprefix(_VERSION)


@functools.lru_cache(maxsize=256)
def parse(url: str) -> Place:
    """Raises UrlRefused."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UrlRefused(f"{url[:80]!r} is no URL: {error}") from None
    if parts.scheme not in _PORTS:
        raise UrlRefused("it has to start with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise UrlRefused("it holds a user or a password; put the key into a file, as key_file")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise UrlRefused("a base URL has no query and no fragment")
    if port == 0:
        raise UrlRefused("nothing listens on port 0")
    base = parts.path.rstrip("/")
    if not _PATH.match(base) or "//" in base or "/.." in base or "/./" in base:
        raise UrlRefused(f"{parts.path[:80]!r} is no path that can be sent; quote what is odd")
    for endpoint in _ENDPOINTS:
        if base.endswith(endpoint):
            raise UrlRefused(f"it goes up to before {endpoint}; leave that away")
    return Place(
        host=_host(parts.hostname or ""),
        port=port or _PORTS[parts.scheme],
        is_tls=parts.scheme == "https",
        base=base,
    )


def _host(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not _NAME.match(name) or len(name) > 253:
        raise UrlRefused(f"{name[:80]!r} is no name of a host" if name else "it names no host")
    return name


@functools.cache
def _trust() -> ssl.SSLContext:
    # Kept: to read all certificates that a system trusts takes longer than most requests.
    return ssl.create_default_context()
