"""Who may ask what, by the door through which the request came.

the API socket     on loopback OpenAI's routes are open to this machine's
programs, but not to web pages of strangers; elsewhere
they need the neuron's token. Management always does.
the work socket    a private Unix socket for cortexes on this host: each
request carries the token that its cortex was given.
the mesh           a stream of a link whose far end is proven and accepted;
nothing more to check.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from typing import Final, Protocol
from urllib.parse import urlsplit

from helexa.protocol.errors import AdminTokenInvalid, KeyInvalid, OriginForbidden
from helexa.util.http_server import Scope, header
from helexa.util.sockets import Address

MANAGEMENT: Final = "/api/"
OPEN_ANYWHERE: Final = ("/healthz", "/readyz")
PATH_CHECK: Final = "/helexa/v1/path"
TOKEN_HEADER: Final = b"x-helexa-token"
NONCE_HEADER: Final = b"x-helexa-nonce"
_NONCE_CHARS_MAX: Final = 256


class Door(Protocol):
    @property
    def is_for_cortexes(self) -> bool:
        """Whether nobody else comes in here."""
        ...

    def check(self, scope: Scope) -> None:
        """Raise a NotAllowed for a request that may not pass."""
        ...


class ApiDoor:
    is_for_cortexes = False

    def __init__(self, address: Address, token: str) -> None:
        self._is_loopback = address.is_loopback
        self._token = token.encode()

    def check(self, scope: Scope) -> None:
        path: str = scope["path"]
        if path in OPEN_ANYWHERE:
            return
        if self._is_loopback:
            _check_not_a_page(scope)
        if path.startswith(MANAGEMENT):
            if not self._has_token(scope):
                raise AdminTokenInvalid
        elif not self._is_loopback and not self._has_token(scope):
            raise KeyInvalid

    def _has_token(self, scope: Scope) -> bool:
        kind, _, given = (header(scope, b"authorization") or b"").partition(b" ")
        if kind.lower() != b"bearer":
            given = header(scope, b"x-api-key") or b""
        return hmac.compare_digest(given.strip(), self._token)


class WorkDoor:
    """Tokens by cortex; one that is given anew replaces the old one."""

    is_for_cortexes = True

    def __init__(self) -> None:
        self._hashes: dict[str, bytes] = {}

    def token_for(self, cortex: str) -> str:
        token = secrets.token_urlsafe(32)
        self._hashes[cortex] = _hash(token.encode())
        return token

    def forget(self, cortex: str, token: str) -> None:
        """Unless another was given since."""
        if self._hashes.get(cortex) == _hash(token.encode()):
            del self._hashes[cortex]

    def check(self, scope: Scope) -> None:
        given = header(scope, TOKEN_HEADER)
        if given is None or _hash(given) not in self._hashes.values():
            raise KeyInvalid


class MeshDoor:
    is_for_cortexes = True

    def check(self, scope: Scope) -> None:
        """The link was let in; so is what it carries."""


def path_proof(scope: Scope) -> bytes:
    """That this neuron knows the token too: another process may sit at a socket's path.

    The token itself came with the request, which the door has checked.
    """
    nonce = (header(scope, NONCE_HEADER) or b"")[:_NONCE_CHARS_MAX]
    token = header(scope, TOKEN_HEADER) or b""
    return hmac.new(token, nonce, hashlib.sha256).hexdigest().encode()


def _check_not_a_page(scope: Scope) -> None:
    # A page of any site can make a browser on this machine send requests to loopback; its
    # Origin tells. A name of the site's that resolves to loopback hides that; the Host tells.
    origin = header(scope, b"origin")
    if origin is not None and not _is_here(origin):
        raise OriginForbidden
    host = header(scope, b"host")
    if host is not None and not _is_here(b"//" + host):
        raise OriginForbidden


def _is_here(url: bytes) -> bool:
    try:
        name = urlsplit(url.decode("ascii")).hostname
        return name == "localhost" or ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
