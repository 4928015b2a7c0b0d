"""Pictures from other servers, fetched so that nobody can make this neuron ask its own network.

A URL is a stranger's word. The rules that make it safe to follow:

- its host is looked up once for each hop; every address found has to be public, and the
  connection is made to one of those that were looked at, not to the name again;
- a redirect is a new URL that is read and looked up like the first, three at most;
- nothing of this machine's surroundings takes part: no proxy, no cookies, no passwords;
- what comes is bounded in bytes and in time from the first moment on, and not unpacked;
- what a client is told does not differ between a name that does not exist, one that leads
  inside, and a host that does not answer. The operator's log has the difference.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import anyio
import anyio.to_thread
import psutil

import helexa
from helexa.neuron.serving.pictures import urls
from helexa.neuron.serving.pictures.addresses import Ip, Network, is_public, is_within
from helexa.neuron.serving.pictures.urls import PictureUrl, UrlRefused
from helexa.protocol.errors import Busy
from helexa.protocol.pictures.headers import TYPES, NotAPicture, type_of
from helexa.util.upstream import (
    Pool,
    Response,
    Tcp,
    UpstreamError,
    UpstreamUnreachable,
)

REDIRECTS_MAX: Final = 3
ADDRESSES_TRIED: Final = 3
CONNECT_TIMEOUT_S: Final = 3.0
AT_ONCE_MAX: Final = 16
"""For all requests of this neuron together."""
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_BINARY: Final = (b"application/octet-stream", b"binary/octet-stream")
_TYPE_BYTES: Final = 16
"""Enough to tell a picture's type."""
_NOT_THERE: Final = "could not be fetched from there"

log = logging.getLogger(__name__)

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[Ip]]]


class NotFetched(Exception):
    """Says what a client may hear, to go on from "it"; `why` is for the operator's log."""

    def __init__(self, told: str, why: str = "") -> None:
        super().__init__(told)
        self.why = why or told


class Room:
    """Bytes that the pictures of one request may still take together."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, count: int) -> None:
        """Raises NotFetched."""
        self.left -= count
        if self.left < 0:
            raise NotFetched("makes the request larger than what is accepted here")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    hosts: Sequence[str] = ()
    """The only ones, as names or `*.NAME`; empty is every public one."""
    ports: Sequence[int] = (80, 443)
    networks: Sequence[Network] = ()
    """That may be asked although they are not public."""
    bytes_max: int = 16 * 1024 * 1024
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class _Pinned(Tcp):
    """A connection to an address that was looked at, for a name that is only said."""

    said: str = ""

    @property
    def authority(self) -> str:
        return self.said


async def looked_up(host: str, port: int) -> Sequence[Ip]:
    """By the system's resolver. Raises OSError or UnicodeError."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ipaddress.ip_address(one[4][0]) for one in found))


def own_addresses() -> Collection[Ip]:
    """Of this machine: what listens on them may believe to be asked from inside."""
    found = set()
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                found.add(ipaddress.ip_address(one.address.partition("%")[0]))
    return found


class Fetcher:
    """One for a neuron: its pictures share a bound on how many are under way."""

    def __init__(
        self,
        rules: FetchRules,
        *,
        resolve: Resolve = looked_up,
        own: Callable[[], Collection[Ip]] = own_addresses,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` is whom to trust; None trusts what the system trusts."""
        self.rules = rules
        self._resolve = resolve
        self._own = own
        self._tls = tls
        self._places = anyio.Semaphore(AT_ONCE_MAX)

    def read(self, text: str) -> PictureUrl:
        """Raises UrlRefused."""
        return urls.parsed(text, ports=self.rules.ports, hosts=self.rules.hosts)

    async def fetch(self, url: PictureUrl, room: Room) -> bytes:
        """The content behind all redirects. Raises NotFetched, or Busy while too many are asked."""
        with anyio.move_on_after(self.rules.timeout_s) as patience:
            await self._places.acquire()
        if patience.cancelled_caught:
            raise Busy(reason="Too many pictures are being fetched; try again shortly.")
        try:
            with anyio.move_on_after(self.rules.timeout_s):
                return await self._followed(url, room)
        finally:
            self._places.release()
        raise NotFetched(_NOT_THERE, f"not within {self.rules.timeout_s:g} s")

    async def _followed(self, url: PictureUrl, room: Room) -> bytes:
        for _ in range(REDIRECTS_MAX + 1):
            found = await self._asked(url, await self._addresses(url), room)
            if isinstance(found, bytes):
                return found
            try:
                onward = self.read(urls.followed(url, found))
            except UrlRefused as error:
                raise NotFetched(_NOT_THERE, f"a redirect to what {error}") from error
            if (url.scheme, onward.scheme) == ("https", "http"):
                raise NotFetched(_NOT_THERE, "a redirect from https to http")
            url = onward
        raise NotFetched(_NOT_THERE, f"more than {REDIRECTS_MAX} redirects")

    async def _addresses(self, url: PictureUrl) -> Sequence[Ip]:
        """Of a host that may be asked. Raises NotFetched where any of them may not."""
        found: Sequence[Ip]
        if url.address is not None:
            found = (url.address,)
        else:
            try:
                found = await self._resolve(url.host, url.port)
            except (OSError, UnicodeError, ValueError) as error:
                raise NotFetched(_NOT_THERE, f"{url.host} is not known: {error}") from error
        own = self._own()
        for address in found:
            if is_within(address, self.rules.networks):
                continue
            # One address inside is enough: which one is taken would be left to chance.
            if not is_public(address) or address in own:
                raise NotFetched(_NOT_THERE, f"{url.host} is at {address}, which is not public")
        if not found:
            raise NotFetched(_NOT_THERE, f"{url.host} has no address")
        return found

    async def _asked(self, url: PictureUrl, addresses: Sequence[Ip], room: Room) -> bytes | str:
        """The content, or where a redirect leads. Raises NotFetched."""
        why = ""
        for address in addresses[:ADDRESSES_TRIED]:
            try:
                return await self._answer(url, address, room)
            except UpstreamUnreachable as error:
                why = str(error)
                if isinstance(_cause(error), ssl.SSLError):
                    raise NotFetched("is on a host whose certificate is not trusted", why) from None
            except UpstreamError as error:
                raise NotFetched(_NOT_THERE, str(error)) from error
        raise NotFetched(_NOT_THERE, why)

    async def _answer(self, url: PictureUrl, address: Ip, room: Room) -> bytes | str:
        tls = await self._trusted() if url.scheme == "https" else None
        name = url.host.removesuffix(".")
        dial = _Pinned(str(address), url.port, tls, name, said=url.authority)
        timeout_s = self.rules.timeout_s
        pool = Pool(dial, connections_max=1, connect_timeout_s=CONNECT_TIMEOUT_S)
        failed: NotFetched | UpstreamError
        async with pool.running():
            # What is raised inside a group of tasks would come out wrapped.
            try:
                with await pool.request(
                    "GET", url.path, _HEADERS, first_byte_timeout_s=timeout_s
                ) as response:
                    if response.status in _REDIRECTS:
                        return (response.header(b"location") or b"").decode("latin-1")
                    return await self._content(response, room)
            except (NotFetched, UpstreamError) as error:
                failed = error
        raise failed

    async def _content(self, response: Response, room: Room) -> bytes:
        bytes_max = self.rules.bytes_max
        too_large = NotFetched(f"has more than the {bytes_max} bytes that are accepted here")
        if response.status != 200:
            raise NotFetched(f"is answered with status {response.status}")
        kind = (response.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind and not kind.startswith(b"image/") and kind not in _BINARY:
            raise NotFetched(f"is none of {', '.join(TYPES)}")
        # Unpacking is how a few bytes become many; nobody has to pack a picture.
        if (response.header(b"content-encoding") or b"identity").strip().lower() != b"identity":
            raise NotFetched("comes packed, although that was not asked for")
        told = response.header(b"content-length") or b""
        if told.isdigit() and (len(told) > 18 or int(told) > bytes_max):
            raise too_large
        content = bytearray()
        is_known = False
        while chunk := await response.chunk():
            room.take(len(chunk))
            content += chunk
            if len(content) > bytes_max:
                raise too_large
            if not is_known and len(content) >= _TYPE_BYTES:
                is_known = _is_picture(content)
        return bytes(content)

    async def _trusted(self) -> ssl.SSLContext:
        if self._tls is None:
            # Reads every certificate that the system trusts.
            self._tls = await anyio.to_thread.run_sync(ssl.create_default_context)
        return self._tls


_HEADERS: Final = (
    (b"accept", ", ".join(f"image/{one}" for one in TYPES).encode()),
    (b"accept-encoding", b"identity"),
    (b"user-agent", f"helexa/{helexa.__version__}".encode()),
    (b"connection", b"close"),
)


def _is_picture(content: bytearray) -> bool:
    try:
        type_of(bytes(content[:_TYPE_BYTES]))
    except NotAPicture as error:
        raise NotFetched(str(error)) from None
    return True


def _cause(error: BaseException) -> BaseException | None:
    """What the operating system or the TLS library said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
