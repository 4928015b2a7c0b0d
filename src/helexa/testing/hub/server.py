"""The hub's two servers: the API with its redirects, and the store that they lead to.

The store is on a port of its own, so that a client which carries its token along is caught:
`leaked` holds every authorization that came there.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.stapled import MultiListener

from helexa.testing.hub.contents import Content, Repo, is_lfs
from helexa.testing.hub.mood import Fault, Mood, Pace
from helexa.util.background import background

_HEAD_BYTES_MAX: Final = 64 * 1024
_BLOCK: Final = 16 * 1024
_API: Final = "/api/models/"
_PLAIN: Final = "/plain/"
_REASONS: Final = {200: "OK", 206: "Partial Content", 302: "Found", 416: "Range Not Satisfiable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    port: int

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


@dataclass(slots=True)
class _Reply:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    content: Content | None = None
    start: int = 0
    length: int = 0
    counted_as: str = ""

    @classmethod
    def of(cls, status: int, body: bytes = b"", **headers: str) -> Self:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, named, Content(body), 0, len(body))


class Hub:
    """Made by `running`. Everything of it may be changed while it runs."""

    def __init__(self, host: str) -> None:
        self.repos: dict[str, Repo] = {}
        self.plain: dict[str, bytes | Path | Content] = {}
        """Files that are served under `/plain/`, without repository or redirect."""
        self.mood = Mood()
        self.sent: Counter[str] = Counter()
        """Bytes of body by file name, of files alone."""
        self.requests: list[Seen] = []
        self.leaked: list[str] = []
        self.port = 0
        self.store_port = 0
        self._host = host
        self._pace = Pace(lambda: self.mood.rate_bytes_per_s)
        self._signatures: dict[str, str] = {}
        self._contents: dict[str, tuple[bytes | Path | Content, Content]] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Self]:
        hub = cls(host)
        api = await anyio.create_tcp_listener(local_host=host, local_port=port)
        store = await anyio.create_tcp_listener(local_host=host)
        hub.port, hub.store_port = _port(api), _port(store)
        async with api, store, background() as tasks:
            tasks.start_soon(api.serve, partial(hub._serve, hub.port))
            tasks.start_soon(store.serve, partial(hub._serve, hub.store_port))
            yield hub

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    def plain_url(self, name: str) -> str:
        return f"{self.url}{_PLAIN}{name}"

    def repo(self, name: str) -> Repo:
        return self.repos.setdefault(name, Repo(name))

    # --- one connection

    async def _serve(self, port: int, stream: SocketStream) -> None:
        pace = Pace(lambda: self.mood.connection_bytes_per_s)
        reader = BufferedByteReceiveStream(stream)
        try:
            async with stream:
                while True:
                    head = await reader.receive_until(b"\r\n\r\n", _HEAD_BYTES_MAX)
                    seen = _request(head, port)
                    self.requests.append(seen)
                    if not await self._answer(seen, stream, pace):
                        return
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead, OSError):
            return

    async def _answer(self, seen: Seen, stream: SocketStream, pace: Pace) -> bool:
        """Whether the connection can carry another request."""
        fault = self.mood.fault(seen.path) or Fault()
        if fault.status:
            reply = _Reply.of(fault.status, fault.body)
            reply.headers.update(fault.headers)
        else:
            reply = self._reply(seen, ranges=self.mood.ranges and fault.ranges)
        framed = self.mood.lengths or not reply.counted_as
        if framed:
            reply.headers["content-length"] = str(reply.length)
        else:
            reply.headers["connection"] = "close"
        lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        await stream.send("\r\n".join([*lines, "", ""]).encode())
        if seen.method == "HEAD" or reply.content is None:
            return framed
        return await self._body(reply, fault, stream, pace) and framed

    async def _body(self, reply: _Reply, fault: Fault, stream: SocketStream, pace: Pace) -> bool:
        assert reply.content is not None
        stops = [at for at in (fault.truncate_after, fault.stall_after) if at is not None]
        end = reply.start + min([reply.length, *stops])
        at = reply.start
        while at < end:
            block = reply.content.read(at, min(_BLOCK, end - at))
            if fault.corrupt_at is not None and at <= fault.corrupt_at < at + len(block):
                wrong = fault.corrupt_at - at
                block = block[:wrong] + bytes([block[wrong] ^ 0xFF]) + block[wrong + 1 :]
            if reply.counted_as:
                await self._pace.spend(len(block))
                await pace.spend(len(block))
                self.sent[reply.counted_as] += len(block)
            await stream.send(block)
            at += len(block)
        if fault.stall_after is not None:
            await anyio.sleep_forever()
        return fault.truncate_after is None

    # --- what is asked

    def _reply(self, seen: Seen, *, ranges: bool) -> _Reply:
        url = urlsplit(seen.path)
        path = unquote(url.path)
        if seen.port == self.store_port:
            return self._stored(seen, path, parse_qs(url.query), ranges=ranges)
        if path.startswith(_PLAIN):
            name = path.removeprefix(_PLAIN)
            if name not in self.plain:
                return _Reply.of(404, b"no such file")
            return self._ranged(seen, name, self._plain_content(name), ranges=ranges)
        if path.startswith(_API):
            repo, _, revision = path.removeprefix(_API).partition("/revision/")
            blobs = "blobs" in parse_qs(url.query)
            return self._described(seen, repo, revision or "main", blobs=blobs)
        repo, slash, rest = path[1:].partition("/resolve/")
        if not slash:
            return _Reply.of(404, b"not found")
        found = self.repos.get(repo)
        # A branch's name may have slashes in it; in the path they come quoted.
        quoted = url.path.partition("/resolve/")[2].partition("/")[0]
        revision = unquote(quoted)
        return self._resolved(seen, found, revision, rest.removeprefix(revision + "/"), ranges)

    def _described(self, seen: Seen, name: str, revision: str, *, blobs: bool) -> _Reply:
        repo = self.repos.get(name)
        if (refused := self._refused(seen, repo, content=False)) is not None:
            return refused
        assert repo is not None
        described = repo.described(revision, blobs=blobs)
        if described is None:
            return _Reply.of(404, b"{}", x_error_code="RevisionNotFound")
        return _Reply.of(200, json.dumps(described).encode(), content_type="application/json")

    def _resolved(
        self, seen: Seen, repo: Repo | None, revision: str, name: str, ranges: bool
    ) -> _Reply:
        if (refused := self._refused(seen, repo, content=True)) is not None:
            return refused
        assert repo is not None
        found = repo.at(revision)
        if found is None:
            return _Reply.of(404, b"", x_error_code="RevisionNotFound")
        commit, files = found
        if name not in files:
            return _Reply.of(404, b"Entry not found", x_error_code="EntryNotFound")
        content = files[name]
        if not is_lfs(name, content):
            reply = self._ranged(seen, name, content, ranges=ranges)
            reply.headers |= {"x-repo-commit": commit, "etag": f'"{content.git_sha1}"'}
            return reply
        signature = secrets.token_hex(8)
        self._signatures[signature] = name
        self._contents[content.sha256] = (content, content)
        return _Reply.of(
            302,
            b"Found",
            location=f"http://{self._host}:{self.store_port}/{content.sha256}?sig={signature}",
            x_repo_commit=commit,
            x_linked_size=str(content.size),
            x_linked_etag=f'"{content.sha256}"',
        )

    def _refused(self, seen: Seen, repo: Repo | None, *, content: bool) -> _Reply | None:
        given = seen.headers.get("authorization", "").removeprefix("Bearer ")
        knows = bool(self.mood.token) and given == self.mood.token
        if given and not knows:
            return _Reply.of(401, b'{"error":"Invalid credentials"}')
        if repo is None or (repo.private and not knows):
            # Whoever is not known is not told whether there is such a repository.
            return _Reply.of(404 if knows else 401, b"", x_error_code="RepoNotFound")
        if repo.gated and content and not knows:
            return _Reply.of(401, b"Access is restricted", x_error_code="GatedRepo")
        return None

    def _stored(
        self, seen: Seen, path: str, query: Mapping[str, list[str]], *, ranges: bool
    ) -> _Reply:
        if "authorization" in seen.headers:
            self.leaked.append(seen.headers["authorization"])
            return _Reply.of(400, b"only one auth mechanism allowed")
        signature = query.get("sig", [""])[0]
        name = self._signatures.get(signature)
        if name is None:
            return _Reply.of(403, b"expired")
        if self.mood.cdn_tokens_expire:
            del self._signatures[signature]
        held = self._contents.get(path[1:])
        if held is None:
            return _Reply.of(404, b"no such object")
        return self._ranged(seen, name, held[1], ranges=ranges)

    def _plain_content(self, name: str) -> Content:
        given = self.plain[name]
        known = self._contents.get(name)
        if known is None or known[0] is not given:
            made = given if isinstance(given, Content) else Content(given)
            known = self._contents[name] = (given, made)
        return known[1]

    def _ranged(self, seen: Seen, name: str, content: Content, *, ranges: bool) -> _Reply:
        etag = f'"{content.sha256[:32]}"'
        headers = {"accept-ranges": "bytes" if ranges else "none"}
        if self.mood.etags:
            headers["etag"] = etag
        whole = _Reply(200, headers, content, 0, content.size, name)
        condition = seen.headers.get("if-range")
        if not ranges or not seen.range or (condition is not None and condition != etag):
            return whole
        first, _, last = seen.range.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) if last else content.size - 1, content.size - 1)
        if start >= content.size:
            return _Reply.of(416, b"", content_range=f"bytes */{content.size}")
        headers["content-range"] = f"bytes {start}-{end}/{content.size}"
        return _Reply(206, headers, content, start, end - start + 1, name)


def _port(listener: MultiListener[SocketStream]) -> int:
    port: int = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
    return port


def _request(head: bytes, port: int) -> Seen:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Seen(method=method, path=path, headers=headers, port=port)
