"""The pieces of a file from an HTTP server: retried where that helps, and one file throughout.

A connection that ends early or stalls costs what it did not bring; what it brought of a piece
is kept, and the next one goes on behind it. All lanes wait together where the server asks for
time. A server that knows no ranges is read from its first byte to its last, once.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final, Self, TypeAlias

import anyio

from helexa.neuron.models.supply.failure import OriginChanged, SourceFailed
from helexa.neuron.models.supply.piece import ORIGIN, PieceUnavailable
from helexa.neuron.models.supply.source import RemoteFile
from helexa.neuron.models.supply.web import Answer, Token, Web, host_of
from helexa.util.backoff import Backoff

FAILURES_MAX: Final = 8
"""In a row, without one byte in between."""
BACKOFF: Final = Backoff(first_s=0.25, factor=2.0, most_s=30.0)
_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})\Z")


class HttpOrigin:
    """`Giver`; use inside `running`."""

    name = ORIGIN

    def __init__(
        self, web: Web, file: RemoteFile, token: Token | None, backoff: Backoff = BACKOFF
    ) -> None:
        self.in_order = file.in_order
        self.bytes_seen = 0
        self._coming: set[_Told] = set()
        self._web = web
        self._file = file
        self._layout = file.layout
        self._token = token
        self._backoff = backoff
        self._behind = ""
        """Where redirects led; asked directly until it refuses."""
        self._resume_at = 0.0
        self._turn = anyio.Lock()
        self._tape: _Tape | None = None

    @classmethod
    @asynccontextmanager
    async def running(
        cls, web: Web, file: RemoteFile, token: Token | None = None, backoff: Backoff = BACKOFF
    ) -> AsyncIterator[Self]:
        origin = cls(web, file, token, backoff)
        try:
            yield origin
        finally:
            await origin._rewind()

    async def fetch(self, index: int) -> bytes:
        start, length = self._layout.span(index)
        if self.in_order:
            return await self._persist(_Told(), start, length, self._wind)
        return await self._persist(_Told(), start, length, self._receive)

    # --- one piece

    @property
    def bytes_coming(self) -> int:
        """Of pieces that are not whole yet."""
        return sum(len(told.data) for told in self._coming)

    async def _persist(self, told: _Told, start: int, length: int, ask: _Ask) -> bytes:
        self._coming.add(told)
        try:
            return await self._whole(told, start, length, ask)
        finally:
            self._coming.discard(told)

    async def _whole(self, told: _Told, start: int, length: int, ask: _Ask) -> bytes:
        failures = 0
        while True:
            before = told.progress
            await anyio.sleep_until(self._resume_at)
            try:
                await ask(told, start, length)
            except SourceFailed as error:
                failures = 1 if told.progress > before else failures + 1
                if error.final or failures >= FAILURES_MAX:
                    raise PieceUnavailable(error.reason, final=True) from error
                if error.retry_after_s is not None:
                    self._resume_at = anyio.current_time() + error.retry_after_s
                else:
                    await anyio.sleep(self._backoff.delay_s(failures, random.random))
                continue
            return bytes(told.data)

    async def _receive(self, told: _Told, start: int, length: int) -> None:
        at, end = start + len(told.data), start + length
        headers = {"range": f"bytes={at}-{end - 1}"}
        if _is_strong(self._file.validator):
            headers["if-range"] = self._file.validator
        behind = self._behind
        try:
            async with self._web.get(
                behind or self._file.url, headers, token=self._token
            ) as answer:
                self._check(answer, at, end)
                if answer.url != self._file.url:
                    self._behind = answer.url
                async with aclosing(answer.chunks()) as chunks:
                    async for chunk in chunks:
                        told.take(chunk, length)
                        self.bytes_seen += len(chunk)
        except SourceFailed as error:
            if behind and error.final:
                # A signature that is too old, most likely; the source gives another.
                if self._behind == behind:
                    self._behind = ""
                raise SourceFailed(error.reason, final=False, retry_after_s=0.0) from error
            raise
        if len(told.data) < length:
            raise SourceFailed(f"{host_of(answer.url)} ended early", final=False)

    def _check(self, answer: Answer, at: int, end: int) -> None:
        where = host_of(answer.url)
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise SourceFailed(f"{where} sends the file in an encoding that was not asked for")
        self._check_same(answer)
        if answer.status == 200:
            # With `if-range` this is how a server says that it has another file now.
            raise OriginChanged(f"{where} gives no part of the file any more")
        match = _RANGE.match(answer.headers.get("content-range", ""))
        if match is None or int(match[1]) != at:
            raise SourceFailed(f"{where} answers with another range than was asked for")
        if int(match[3]) != self._file.size:
            raise OriginChanged(f"{where} has a file of {match[3]} bytes now")
        if int(match[2]) >= end:
            raise SourceFailed(f"{where} answers with more than was asked for")

    def _check_same(self, answer: Answer) -> None:
        now = validator_of(answer)
        if self._file.validator and now and now != self._file.validator:
            raise OriginChanged(f"{host_of(answer.url)} has another file now")

    def _check_whole(self, answer: Answer) -> None:
        self._check_same(answer)
        size = answer.headers.get("content-length", "")
        if size != str(self._file.size):
            raise OriginChanged(f"{host_of(answer.url)} has a file of {size} bytes now")

    # --- without ranges

    async def _wind(self, told: _Told, start: int, length: int) -> None:
        async with self._turn:
            if self._tape is None or self._tape.at > start:
                await self._rewind()
                self._tape = await self._opened()
            tape = self._tape
            try:
                told.data = await tape.read(start, length)
                self.bytes_seen += length
            except BaseException:
                # Somewhere in the middle of a piece: nobody can go on from there.
                told.progress = max(told.progress, tape.at)
                with anyio.CancelScope(shield=True):
                    await self._rewind()
                raise

    async def _opened(self) -> _Tape:
        answer = await self._web.open(self._file.url, token=self._token)
        try:
            self._check_whole(answer)
        except BaseException:
            await answer.response.aclose()
            raise
        return _Tape(answer)

    async def _rewind(self) -> None:
        tape, self._tape = self._tape, None
        if tape is not None:
            await tape.close()


class _Told:
    """What arrived of one piece, over however many connections."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.progress = 0

    def take(self, chunk: bytes, length: int) -> None:
        if len(self.data) + len(chunk) > length:
            raise SourceFailed("the source sends more than was asked for", final=False)
        self.data += chunk
        self.progress = len(self.data)


_Ask: TypeAlias = Callable[[_Told, int, int], Awaitable[None]]


class _Tape:
    """A whole file that goes by once."""

    def __init__(self, answer: Answer) -> None:
        self.at = 0
        self._answer = answer
        self._chunks = answer.chunks()
        self._rest = b""

    async def read(self, start: int, length: int) -> bytearray:
        await self._take(start - self.at, None)
        data = bytearray()
        await self._take(length, data)
        return data

    async def _take(self, count: int, into: bytearray | None) -> None:
        while count:
            if not self._rest:
                self._rest = await anext(self._chunks, b"")
                if not self._rest:
                    raise SourceFailed(f"{host_of(self._answer.url)} ended early", final=False)
            part, self._rest = self._rest[:count], self._rest[count:]
            count -= len(part)
            self.at += len(part)
            if into is not None:
                into += part

    async def close(self) -> None:
        await self._chunks.aclose()
        await self._answer.response.aclose()


def validator_of(answer: Answer) -> str:
    """The ETag of the file itself, else when it was changed."""
    return answer.headers.get("etag") or answer.headers.get("last-modified", "")


def _is_strong(validator: str) -> bool:
    """Only such may be compared byte for byte; a time has a second's blur and is left out."""
    return validator.startswith('"')
