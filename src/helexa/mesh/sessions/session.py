"""The control protocol over one link: asking, telling, answering, and opening data streams.

One stream carries the messages of both directions; a writer task owns its
sending half, so that a cancelled ask can never leave half a frame behind. Every
further stream begins with one `ExecuteRequest` and is bytes after that.

What a peer does wrong costs it the link and this node nothing: frames that are
refused are counted and closed upon, silence and stalled reading have deadlines,
and every queue has a length.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from helexa.mesh.sessions.asks import AnswerTimeout, Asks, PeerRefused, PeerUnsupported, Progress
from helexa.mesh.sessions.framing import FrameReader, OpenedStream, read_opening
from helexa.mesh.sessions.handshake import HANDSHAKE_S, CloseCode, Greeting, shake_hands
from helexa.mesh.sessions.outbox import Outbox
from helexa.mesh.transport import Link, LinkClosed, Stream, StreamReset
from helexa.protocol.errors import HelexaError, InternalFault, QueueFull
from helexa.protocol.frames import Frame, FrameRejected, TagUnknown, decode, encode
from helexa.protocol.messages import (
    ExecuteRequest,
    Hello,
    Ok,
    ProvisioningResponse,
    Refused,
    Unsupported,
    Wire,
)
from helexa.util.background import background
from helexa.util.logs import every

__all__ = [
    "AnswerTimeout",
    "Inbound",
    "OnMessage",
    "OnStream",
    "PeerRefused",
    "PeerUnsupported",
    "Progress",
    "Session",
]

log = logging.getLogger(__name__)

# For the whole process: peers that come back to misbehave again must not fill the log.
_seldom: Final = every(10.0)

SILENCE_MAX_S: Final = 6.0
"""A killed peer says nothing, and this is how long it takes to know: three keep-alives missed."""
ASK_TIMEOUT_S: Final = 10.0
OPENING_S: Final = 10.0
"""From a data stream's first byte to the end of its first frame."""
LEAVE_S: Final = 1.0
"""How long a leaving side waits for the peer to have read its last words."""
FRAMES_REJECTED_MAX: Final = 8
HANDLED_AT_ONCE_MAX: Final = 128
HANDLING_PATIENCE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message from the peer. Only an asked one may be answered with progress first."""

    session: Session
    message: Wire
    id: int

    async def progress(self, response: ProvisioningResponse) -> None:
        """Tell how far it is; `response.final` must be false. Raises LinkClosed."""
        await self.session.tell(response, re=self.id)


OnMessage: TypeAlias = Callable[[Inbound], Awaitable[Wire | None]]
"""Answers an ask; None where the message was told. Each runs in a task of its own,
started in the order of arrival. A HelexaError becomes `Refused`."""

OnStream: TypeAlias = Callable[["Session", ExecuteRequest, Stream], Awaitable[None]]
"""Serves one data stream; what it left unfinished is aborted when it returns."""


class Session:
    """Made by `running`. All calls raise LinkClosed once the link is gone."""

    def __init__(
        self,
        link: Link,
        greeting: Greeting,
        on_message: OnMessage,
        on_stream: OnStream,
        tasks: TaskGroup,
        transport: str = "",
    ) -> None:
        self.link = link
        self.transport = transport
        self.peer = link.peer
        self.dialled = link.dialled
        self.hello = greeting.hello
        self.version = greeting.version
        self.frames_rejected = 0
        self.ended: LinkClosed | None = None
        self._outbox = Outbox(greeting.stream)
        self._reader: FrameReader = greeting.reader
        self._on_message = on_message
        self._on_stream = on_stream
        self._tasks = tasks
        self._ids = itertools.count(2)
        self._asks = Asks()
        self._room = anyio.Semaphore(HANDLED_AT_ONCE_MAX)
        self._over = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        link: Link,
        hello: Hello,
        on_message: OnMessage,
        on_stream: OnStream,
        *,
        silence_max_s: float = SILENCE_MAX_S,
        handshake_s: float = HANDSHAKE_S,
        transport: str = "",
    ) -> AsyncIterator[Session]:
        """Yield after the handshake; the link is closed when the block ends.

        The block is not interrupted when the link ends first: it sees LinkClosed
        from any call, or awaits `wait_closed()`. `silence_max_s` should be the
        same on all nodes: each keeps a third of it.

        Raises what `shake_hands` raises.
        """
        try:
            greeting = await shake_hands(link, hello, timeout_s=handshake_s)
            async with background() as tasks:
                session = cls(link, greeting, on_message, on_stream, tasks, transport)
                tasks.start_soon(session._follow)
                tasks.start_soon(session._write, silence_max_s)
                tasks.start_soon(session._read)
                tasks.start_soon(session._accept_streams)
                tasks.start_soon(session._keep_alive, silence_max_s)
                try:
                    yield session
                finally:
                    with anyio.CancelScope(shield=True):
                        await session._leave()
        finally:
            with anyio.CancelScope(shield=True):
                await link.close(CloseCode.NORMAL, "the session ended")

    @property
    def bytes_sent(self) -> int:
        """Of control messages, transport's own overhead aside."""
        return self._outbox.bytes_sent

    @property
    def bytes_read(self) -> int:
        """Of control messages, as `bytes_sent`."""
        return self._reader.bytes_read

    async def ask(
        self,
        message: Wire,
        *,
        timeout_s: float = ASK_TIMEOUT_S,
        on_progress: Progress | None = None,
    ) -> Wire:
        """The peer's answer.

        Raises PeerRefused, PeerUnsupported, AnswerTimeout, LinkClosed; ValueError
        for a message too large for a frame. Progress may come before the answer
        and is passed on in order.
        """
        number = next(self._ids)
        with self._asks.waiting(number, on_progress) as ask:
            try:
                with anyio.fail_after(timeout_s):
                    await self._send(self._encode(message, number=number))
                    await ask.done.wait()
            except TimeoutError:
                raise AnswerTimeout(
                    f"no answer to {type(message).__name__} within {timeout_s:g} s"
                ) from None
            answer = ask.answer()
        if answer is None:
            raise self._gone()
        return answer

    async def tell(self, message: Wire, *, re: int = 0) -> None:
        """Return when the message is on its way; nothing says that it arrived."""
        await self._send(self._encode(message, re=re))

    def tell_or_drop(self, message: Wire) -> None:
        """As `tell`, without waiting: dropped where the peer reads too slowly or is gone."""
        if self.ended is None:
            self._send_or_drop(message)

    async def open_data(self, request: ExecuteRequest) -> Stream:
        """A stream for one request's bytes. The caller ends it with `abort()` in a finally."""
        stream = await self.link.open_stream()
        return OpenedStream(stream, self._encode(request))

    async def close(self, code: CloseCode = CloseCode.NORMAL, reason: str = "") -> None:
        """End the link at once, for both sides; what was not yet read is lost."""
        await self.link.close(code, reason)

    async def part(self, code: CloseCode = CloseCode.NORMAL, reason: str = "") -> None:
        """End the link once the peer has read what was told: within LEAVE_S in any case."""
        await self._leave()
        await self.close(code, reason)

    async def wait_closed(self) -> LinkClosed:
        """Return why the link ended, also when the peer just fell silent."""
        await self._over.wait()
        assert self.ended is not None
        return self.ended

    def _gone(self) -> LinkClosed:
        # A fresh one each time: a traceback is written into what is raised.
        if self.ended is None:
            return LinkClosed("the session ended")
        return LinkClosed(self.ended.reason, self.ended.code)

    def _encode(self, body: Wire, *, re: int = 0, number: int = 0) -> bytes:
        return encode(Frame(number or next(self._ids), re, body), version=self.version)

    async def _send(self, frame: bytes) -> None:
        if self.ended is not None or not await self._outbox.put(frame):
            raise self._gone()

    def _send_or_drop(self, body: Wire, *, re: int = 0) -> None:
        self._outbox.put_or_drop(self._encode(body, re=re))

    async def _follow(self) -> None:
        try:
            self.ended = await self.link.wait_closed()
        finally:
            if self.ended is None:
                self.ended = LinkClosed("the session ended", CloseCode.NORMAL)
            self._over.set()
            self._asks.abandon()

    async def _leave(self) -> None:
        # Closing a link drops what is still on its way. So say "that was all" and
        # let the peer close, which it does when it has read to the end.
        self._outbox.close()
        with anyio.move_on_after(LEAVE_S):
            await self._over.wait()

    async def _write(self, stall_s: float) -> None:
        if not await self._outbox.drain(stall_s):
            await self.close(CloseCode.STALLED, f"the peer reads nothing for {stall_s:g} s")

    async def _keep_alive(self, silence_max_s: float) -> None:
        every_s = silence_max_s / 3
        bytes_read, frames_sent = -1, -1
        heard_s = looked_s = anyio.current_time()
        while True:
            await anyio.sleep(every_s)
            now_s = anyio.current_time()
            # Looking much too late means that this node slept, not the peer.
            if self._reader.bytes_read != bytes_read or now_s - looked_s > 2 * every_s:
                bytes_read, heard_s = self._reader.bytes_read, now_s
            looked_s = now_s
            if now_s - heard_s >= silence_max_s:
                await self.close(CloseCode.SILENT, f"nothing heard for {silence_max_s:g} s")
                return
            if self._outbox.frames_sent == frames_sent:
                self._send_or_drop(Ok())
            frames_sent = self._outbox.frames_sent

    # --- the reader

    async def _read(self) -> None:
        try:
            while (payload := await self._reader.next()) is not None:
                await self._take(payload)
            await self.close(CloseCode.NORMAL, "the peer ended the session")
        except FrameRejected as error:
            # Where the next frame begins is unknown from here on.
            self.frames_rejected += 1
            await self._close_for_rejected(str(error))
        except (LinkClosed, StreamReset):
            await self.close(CloseCode.NORMAL, "the control stream ended")

    async def _take(self, payload: bytes) -> None:
        try:
            frame = decode(payload, version=self.version)
        except TagUnknown as unknown:
            if unknown.re:
                self._asks.settle_unknown(unknown.re, unknown.tag)
            else:
                self._send_or_drop(Unsupported(tag=unknown.tag), re=unknown.frame_id)
            return
        except FrameRejected as error:
            await self._reject(str(error))
            return
        match frame.body:
            case body if frame.re:
                self._asks.settle(frame.re, body)
            case Ok():
                pass  # A keep-alive; that it was read is all it says.
            case Hello() | ExecuteRequest() as body:
                await self._reject(f"{type(body).__name__} among control messages")
            case body:
                await self._begin(Inbound(self, body, frame.id))

    async def _begin(self, inbound: Inbound) -> None:
        try:
            self._room.acquire_nowait()
        except anyio.WouldBlock:
            # A burst passes in a moment. Waiting on would be a deadlock where the
            # handlers themselves wait for answers that are behind this message.
            with anyio.move_on_after(HANDLING_PATIENCE_S) as patience:
                await self._room.acquire()
            if patience.cancelled_caught:
                busy = QueueFull(f"{HANDLED_AT_ONCE_MAX} messages of this link are being handled")
                self._send_or_drop(_refusal(busy), re=inbound.id)
                return
        self._tasks.start_soon(self._handle, inbound)

    async def _handle(self, inbound: Inbound) -> None:
        try:
            answer = await self._answer(inbound)
            if answer is not None:
                await self._outbox.put(answer)
        finally:
            self._room.release()

    async def _answer(self, inbound: Inbound) -> bytes | None:
        """The handler's answer as a frame: encoded in here, since it may be too large for one."""
        try:
            body = await self._on_message(inbound)
            return None if body is None else self._encode(body, re=inbound.id)
        except LinkClosed:
            return None
        except HelexaError as error:
            refusal = _refusal(error)
        except Exception:
            what = type(inbound.message).__name__
            log.exception("handling a %s failed", what, extra={"peer": self.peer})
            refusal = _refusal(InternalFault())
        return self._encode(refusal, re=inbound.id)

    async def _reject(self, reason: str) -> None:
        self.frames_rejected += 1
        if self.frames_rejected >= FRAMES_REJECTED_MAX:
            await self._close_for_rejected(reason)

    async def _close_for_rejected(self, reason: str) -> None:
        if _seldom():
            log.warning(
                "closed a link after %d rejected frames: %s (and %d more such links before)",
                self.frames_rejected,
                reason,
                _seldom.missed,
                extra={"peer": self.peer},
            )
        await self.close(CloseCode.FRAMES_REJECTED, f"frames rejected, the last: {reason}")

    # --- data streams

    async def _accept_streams(self) -> None:
        with suppress(LinkClosed):
            while True:
                self._tasks.start_soon(self._serve, await self.link.accept_stream())

    async def _serve(self, stream: Stream) -> None:
        try:
            opened = None
            with anyio.move_on_after(OPENING_S):
                opened = await read_opening(stream, self.version)
            if opened is not None:
                await self._on_stream(self, *opened)
        except (FrameRejected, TagUnknown) as error:
            await self._reject(str(error))
        except (LinkClosed, StreamReset):
            pass
        except Exception:
            log.exception("serving a data stream failed", extra={"peer": self.peer})
        finally:
            stream.abort()


def _refusal(error: HelexaError) -> Refused:
    return Refused(code=error.code, message=error.message, retry_after_s=error.retry_after_s)
