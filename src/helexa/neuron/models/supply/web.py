"""HTTP as sources need it: a bounded answer or a stream of bytes, through redirects and proxies.

Redirects are followed here and not by the client, because three things depend on each hop: a
token goes to the host that it is for and nowhere else, `http:` stays on loopback, and nothing
goes from `https:` back to `http:`.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urljoin, urlsplit

import anyio
import anyio.to_thread

import helexa
from helexa.neuron.models.supply.failure import SourceFailed, refused

if TYPE_CHECKING:
    import httpx2

REDIRECTS_MAX: Final = 5
CONNECT_TIMEOUT_S: Final = 15.0
STALL_BYTES_LEAST: Final = 4096
"""Fewer within the stall time is a connection that is as good as dead."""
URL_CHARS_MAX: Final = 8_192
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_CONTENT: Final = (200, 206)


@dataclass(frozen=True, slots=True)
class Token:
    """A secret, and the one origin (`https://host:port`) that gets it."""

    origin: str
    secret: str

    def __repr__(self) -> str:
        return f"Token({self.origin!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`headers` by lower-case name: of the last hop, and the `x-` ones of the hops before it."""

    status: int
    url: str
    headers: Mapping[str, str]
    response: httpx2.Response
    stall_s: float

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises SourceFailed where it ends early or stalls."""
        since, got = time.monotonic(), 0
        with _translated(self.url):
            async for chunk in self.response.aiter_raw():
                got += len(chunk)
                now = time.monotonic()
                if now - since > self.stall_s:
                    if got < STALL_BYTES_LEAST:
                        raise SourceFailed(f"{host_of(self.url)} sends nothing", final=False)
                    since, got = now, 0
                yield chunk

    async def read(self, bytes_max: int) -> bytes:
        parts, left = [], bytes_max
        async for chunk in self.chunks():
            left -= len(chunk)
            if left < 0:
                raise SourceFailed(f"{host_of(self.url)} answers with more than {bytes_max} bytes")
            parts.append(chunk)
        return b"".join(parts)


class Web:
    """Use inside `running`. One for all pulls of a neuron; connections are kept and bounded."""

    def __init__(self, stack: AsyncExitStack, stall_s: float, connections_max: int) -> None:
        self._stack = stack
        self._stall_s = stall_s
        self._connections_max = connections_max
        self._clients: dict[bool, httpx2.AsyncClient] = {}
        self._making = anyio.Lock()

    @classmethod
    @asynccontextmanager
    async def running(cls, *, stall_s: float, connections_max: int) -> AsyncIterator[Self]:
        async with AsyncExitStack() as stack:
            yield cls(stack, stall_s, connections_max)

    @asynccontextmanager
    async def get(
        self, url: str, headers: Mapping[str, str] | None = None, *, token: Token | None = None
    ) -> AsyncIterator[Answer]:
        """The answer behind all redirects, of status 200 or 206. Raises SourceFailed."""
        answer = await self.open(url, headers, token=token)
        try:
            yield answer
        finally:
            with anyio.CancelScope(shield=True):
                await answer.response.aclose()

    async def open(
        self, url: str, headers: Mapping[str, str] | None = None, *, token: Token | None = None
    ) -> Answer:
        """`get` for one who closes `answer.response` by himself."""
        told: dict[str, str] = {}
        is_behind = False
        for _ in range(REDIRECTS_MAX + 1):
            check_url(url)
            response = await self._send(url, headers or {}, token)
            status = response.status_code
            seen = {name.lower(): value for name, value in response.headers.items()}
            if status in _CONTENT:
                return Answer(
                    status=status,
                    url=url,
                    headers=told | seen,
                    response=response,
                    stall_s=self._stall_s,
                )
            await response.aclose()
            if status not in _REDIRECTS or "location" not in seen:
                where, with_token = host_of(url), token is not None
                failed = refused(status, seen, where, with_token=with_token, unix=time.time())
                # A store behind a hub refuses a signature, not a person; the next is another.
                failed.final = failed.final and not (is_behind and status in (401, 403))
                raise failed
            # What a hub says of the file, which the store behind it does not know.
            told |= {name: value for name, value in seen.items() if name.startswith("x-")}
            before, url = url, followed(url, seen["location"])
            is_behind = is_behind or origin_of(before) != origin_of(url)
        raise SourceFailed(f"{host_of(url)} leads in a circle: {REDIRECTS_MAX} redirects")

    async def _send(
        self, url: str, headers: Mapping[str, str], token: Token | None
    ) -> httpx2.Response:
        sent = dict(headers)
        if token is not None and origin_of(url) == token.origin:
            sent["authorization"] = f"Bearer {token.secret}"
        # Loopback is this machine: a proxy's loopback is another.
        client = await self._client(proxied=not _is_loopback(urlsplit(url).hostname or ""))
        with _translated(url):
            return await client.send(client.build_request("GET", url, headers=sent), stream=True)

    async def _client(self, *, proxied: bool) -> httpx2.AsyncClient:
        async with self._making:
            if proxied not in self._clients:
                made = await anyio.to_thread.run_sync(self._made, proxied)
                self._clients[proxied] = await self._stack.enter_async_context(made)
            return self._clients[proxied]

    def _made(self, proxied: bool) -> httpx2.AsyncClient:
        # Reads every certificate that the system trusts: many neurons pull nothing.
        import httpx2

        # It tells the URL of every piece, signature and all, and below that the headers.
        for talkative in ("httpx2", "httpcore2"):
            logging.getLogger(talkative).setLevel(logging.WARNING)
        return httpx2.AsyncClient(
            trust_env=proxied,
            timeout=httpx2.Timeout(self._stall_s, connect=CONNECT_TIMEOUT_S, pool=None),
            limits=httpx2.Limits(max_connections=self._connections_max),
            headers={
                "user-agent": f"helexa/{helexa.__version__}",
                "accept-encoding": "identity",
            },
        )


class _translated:  # noqa: N801 - reads as a statement
    """Where the client's exceptions become ours."""

    def __init__(self, url: str) -> None:
        self._where = host_of(url)

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if error is None or not isinstance(error, Exception):
            return
        import httpx2  # As above; here it has been imported long since.

        if isinstance(error, httpx2.TimeoutException):
            raise SourceFailed(f"{self._where} sends nothing", final=False) from error
        if _is_about_trust(error):
            raise SourceFailed(
                f"the certificate of {self._where} is not trusted: {_cause(error)}"
            ) from error
        if isinstance(error, httpx2.TransportError | OSError):
            reason = str(error) or type(error).__name__
            raise SourceFailed(f"{self._where} was lost: {reason}", final=False) from error
        if isinstance(error, httpx2.InvalidURL | httpx2.HTTPError):
            raise SourceFailed(f"{self._where} cannot be asked: {error}") from error


def _cause(error: BaseException) -> BaseException:
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error


def _is_about_trust(error: BaseException) -> bool:
    return isinstance(_cause(error), ssl.SSLCertVerificationError)


def check_url(url: str) -> None:
    """`https:`, or `http:` on loopback. Raises SourceFailed."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise SourceFailed(f"this is no URL: {error}") from error
    if not host or len(url) > URL_CHARS_MAX or not url.isprintable() or " " in url:
        raise SourceFailed("this is no URL")
    if parts.username is not None or parts.password is not None:
        raise SourceFailed("a URL with a password in it is shown to too many; it is not taken")
    if parts.scheme == "http" and not _is_loopback(host):
        raise SourceFailed(f"http: is only for this machine itself, and {host} is not; use https:")
    if parts.scheme not in ("http", "https"):
        raise SourceFailed(f"{parts.scheme or url[:20]!r} is no way to fetch a file")


def followed(url: str, location: str) -> str:
    """Where a redirect leads. Raises SourceFailed for a way that is not gone."""
    target = urljoin(url, location)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise SourceFailed(f"{host_of(url)} leads from https: to something else")
    check_url(target)
    return target


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def host_of(url: str) -> str:
    """What is shown of a URL: the rest may hold a signature."""
    return urlsplit(url).netloc or "the source"


def _is_loopback(host: str) -> bool:
    # A name that resolves to loopback today may resolve to a neighbour tomorrow.
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
