"""One client connection: HTTP/1.1 by llhttp, within limits, to the calls of ASGI.

All times are deadlines that one timer per server looks at, and bytes are counted
per read, so none of this is felt per request or per streamed chunk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from helexa.util.deadlines import NEVER, Deadlines
from helexa.util.flow_control import FlowControl
from helexa.util.http_cycle import EXTENSION, Cycle
from helexa.util.http_request import FRAMING, HTTP_1_0, METHODS, Framing, Refused, parts_of
from helexa.util.starts import Starts

log = logging.getLogger(__name__)

ErrorBody: TypeAlias = Callable[[int, str], bytes]

DISCARD_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of a body that was refused unread. Closing at once would reset the connection and the client
might never see the refusal; but patience for what nobody reads has an end."""

BODY_BYTES_HIGH: Final = 64 * 1024
"""More of a body than this unread, and the socket is not read."""

LINGER_S: Final = 2.0
"""For the same reason, between our last byte and the end of a refused connection."""

HEADERS_MAX: Final = 256
"""Of one request. Each costs more in memory than it has bytes."""

PIPELINE_MAX: Final = 64
"""Requests that wait behind the one being answered: one read can hold thousands."""

WEBSOCKET_BYTES_MAX: Final = 64 * 1024
"""Of one message that a client sends over a websocket."""

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    header_bytes_max: int = 64 * 1024
    header_timeout_s: float = 20.0
    """From the first byte of a request to the end of its headers."""
    handshake_timeout_s: float = 10.0
    """From the connection to its keys, where it speaks TLS."""
    write_stall_s: float = 30.0
    """A client that reads nothing for this long while bytes wait for it is dropped."""
    connections_max: int = 8_192
    keep_alive_s: float = 75.0
    """Between two requests. Longer than clients keep theirs, so that they close first."""


class Host(Protocol):
    """What a connection needs of its server."""

    limits: ServerLimits
    deadlines: Deadlines

    starts: Starts
    is_accepting: bool
    websockets: bool
    """Whether the app has any; else who asks for one is answered over HTTP."""

    def error_body_at(self, target: bytes) -> ErrorBody:
        """`target` is what is known of the request's."""
        ...

    def connection_ended(self) -> None: ...


class HttpConnection:
    """An `asyncio.Protocol` in all but name: what inherits from it could not be compiled whole."""

    def __init__(self, config: Config, state: ServerState, host: Host) -> None:
        self.transport: asyncio.Transport
        self.flow: FlowControl
        self.cycle: Cycle | None = None
        """Of the request that was read last."""
        self.deadline = NEVER
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.scope: dict[str, Any] = {}
        self._app = config.loaded_app
        self._config = config
        self._state = state
        self._connections = cast("set[object]", state.connections)
        self._tasks: set[asyncio.Task[None]] = state.tasks
        self._loop = asyncio.get_running_loop()
        self._server: tuple[str, int | None] | None = None
        self._client: tuple[str, int] | None = None
        self._scheme = "http"
        self._waiting: deque[Cycle] = deque()
        """Pipelined requests, in the order in which they came."""
        self._parser: Any = httptools.HttpRequestParser(self)
        # Else an answer to the first of several pipelined requests would end in a parser's error.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._host = host
        self._running: Cycle | None = None
        self._in_head = False
        self._head_timed = False
        self._limits = host.limits
        self._framing = Framing()
        self._refused = False
        self._refusal: Refused | None = None
        """Why one of the parser's calls stopped it."""
        self._upgrades = False
        self._progress = False
        self._quiet_bytes = 0
        self._read_bytes = 0
        self._discarded_bytes = 0

    # --- asyncio's calls

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self._server = get_local_addr(transport)
        self._client = get_remote_addr(transport)
        if is_ssl(transport):
            self._scheme = "https"
        if not self._host.is_accepting:
            self._refuse(503, "This node is shutting down.")
        elif len(self._connections) > self._limits.connections_max:
            self._refuse(503, "Too many connections; try again shortly.")
        else:
            self._within(self._limits.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline = NEVER
        self._connections.discard(self)
        if self._running is not None:
            self._running.leave()
        if self.cycle is not None:
            self.cycle.leave()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self._parser = None  # The two know each other.
        self._host.connection_ended()

    def eof_received(self) -> None:
        """Who sends no more is gone."""

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._discard(len(data))
            return
        self._progress = False
        self._read_bytes = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._upgrades:
                self._become_websocket(rest)
                return
            self._decline_upgrade(rest)
        except httptools.HttpParserError:
            refusal = self._refusal or Refused(400, "This is not a valid HTTP/1.1 request.")
            self._refuse(refusal.status, refusal.message)
            return
        if self._in_head and not self._head_timed:
            # Nearly every head ends in the read that it began in, and needs no time.
            self._head_timed = True
            if not self._is_answering:
                self._within(self._limits.header_timeout_s)
        if self._progress:
            self._quiet_bytes = 0
            return
        # The parser collects header and trailer bytes without a limit of its own.
        self._quiet_bytes += len(data)
        if self._quiet_bytes > self._limits.header_bytes_max:
            self._refuse(431, self._too_long())

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._within(self._limits.write_stall_s)

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        self._settle_deadline()

    # --- the parser's calls

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.scope = {  # Completed with the headers.
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "root_path": "",
            "headers": self.headers,
        }
        self._in_head = True
        self._head_timed = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # A trailer: what it says was not there when the request was judged.
        name = name.lower()
        if name in FRAMING:
            self._framing.note(name, value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        try:
            self._begin()
        except Refused as refusal:
            self._refusal = refusal
            raise

    def _begin(self) -> None:
        """Raises Refused."""
        self._progress = True
        self._in_head = False
        if not self.flow.write_paused:
            self.deadline = NEVER
        parser, scope, headers = self._parser, self.scope, self.headers
        version = parser.get_http_version()
        if len(headers) > HEADERS_MAX:
            raise Refused(431, f"More than {HEADERS_MAX} headers.")
        if self._quiet_bytes + self._read_bytes > self._limits.header_bytes_max:
            self._measure_head()
        framing = self._framing
        framing.check(version)
        scope["method"] = method = METHODS.get(parser.get_method(), "")
        scope["http_version"] = version
        scope["path"], scope["raw_path"], scope["query_string"] = parts_of(self.url, method)
        before = self._is_answering
        if self._host.websockets and not before and parser.should_upgrade():
            self._upgrades = self._asks_for_websocket()
            if self._upgrades:
                return
        keep_alive = version != HTTP_1_0 and parser.should_keep_alive()
        self.cycle = cycle = Cycle(
            scope, self.transport, self.flow, keep_alive, self.on_response_complete
        )
        if framing.awaits_100:
            cycle.waiting_for_100_continue = True
        scope["extensions"] = {EXTENSION: cycle}
        if before:
            if len(self._waiting) >= PIPELINE_MAX:
                raise Refused(503, "Too many requests wait on this connection.")
            self.flow.pause_reading()
            self._waiting.append(cycle)
        else:
            self._start(cycle)

    def on_body(self, body: bytes) -> None:
        self._progress = True
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._discard(len(body))
            return
        # Nearly every body is one piece: kept as it came, it is copied nowhere.
        cycle.body = cycle.body + body if cycle.body else body
        if len(cycle.body) > BODY_BYTES_HIGH:
            self.flow.pause_reading()
        cycle.set()

    def on_message_complete(self) -> None:
        self._progress = True
        if self._upgrades:
            return
        if self._parser.should_upgrade() and self._declared_body():
            return  # The parser skipped it; see _decline_upgrade.
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.more_body = False
            cycle.set()

    # --- requests

    def _start(self, cycle: Cycle) -> None:
        self._running = cycle
        self._host.starts(self._go)

    def _go(self) -> bool:
        cycle = self._running
        if cycle is None or cycle.disconnected:
            return False  # The client left while it waited for its turn.
        cycle.task = task = self._loop.create_task(self._run(cycle))
        # Left by `_run` itself: a callback at the end of each task would cost more.
        self._tasks.add(task)
        return True

    async def _run(self, cycle: Cycle) -> None:
        self._host.starts.stepped()
        try:
            await self._app(cycle.scope, cycle.receive, cycle.send)
            if not cycle.response_complete and not cycle.disconnected:
                log.error("response_incomplete", extra={"path": cycle.scope["path"]})
                self._answer_fault(cycle)
        except Exception:
            log.exception("request_fault", extra={"path": cycle.scope["path"]})
            self._answer_fault(cycle)
        finally:
            self._tasks.discard(cycle.task)
            # Scope and cycle know each other; untied, they are freed without the collector,
            # whose passes over such rings were a sixth of a request's cost.
            cycle.scope["extensions"] = {}

    def _answer_fault(self, cycle: Cycle) -> None:
        if cycle.response_started or cycle.disconnected:
            self.transport.close()
        else:
            cycle.response_complete = True
            self._refuse(500, "This node failed to answer; its log says why.")

    def on_response_complete(self) -> None:
        self._running = None
        if self.transport.is_closing():
            self._within(self._limits.write_stall_s)
            return
        self.flow.resume_reading()
        if self._waiting:
            self._start(self._waiting.popleft())
        elif self._in_head or self._refused:
            self._settle_deadline()
        else:
            self.deadline = until = self._loop.time() + self._limits.keep_alive_s
            self._host.deadlines.watch(until)

    def shutdown(self) -> None:
        """End after the request that is being answered, if any."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False
        if self.transport.is_closing():
            self._within(LINGER_S)

    # --- deadlines

    def expire(self, now: float) -> None:  # noqa: ARG002 - the contract's
        """Called by the server's Deadlines."""
        self.deadline = NEVER
        if self.flow.write_paused or self.transport.is_closing() or self._refused:
            self.transport.abort()
        elif self._in_head and not self._is_answering:
            self._refuse(408, "The request's headers took too long.")
        elif not self._is_answering:
            self.transport.close()
            self._within(LINGER_S)

    @property
    def _is_answering(self) -> bool:
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete

    def _settle_deadline(self) -> None:
        limits = self._limits
        if self._refused:
            self._within(LINGER_S)
        elif self._is_answering:
            self.deadline = NEVER
        else:
            self._within(limits.header_timeout_s if self._in_head else limits.keep_alive_s)

    def _within(self, seconds: float) -> None:
        self.deadline = until = self._loop.time() + seconds
        self._host.deadlines.watch(until)

    # --- refusals

    def _refuse(self, status: int, message: str) -> None:
        self._refused = True
        running = self._running
        if running is not None and running is self.cycle and not running.response_started:
            # Nobody was told anything yet: to the app its client is gone, which hears it here.
            running.leave()
        elif self._is_answering or self.transport.is_closing():
            # A second answer inside the first would be worse than none.
            self.transport.abort()
            return
        body = self._host.error_body_at(self.url)(status, message)
        self.transport.write(answer_of(status, body))
        if self.transport.can_write_eof() and len(self._connections) <= (
            2 * self._limits.connections_max
        ):
            self.transport.write_eof()
        else:
            self.transport.close()
        self._within(LINGER_S)

    def _too_long(self) -> str:
        return f"More than {self._limits.header_bytes_max} bytes of headers."

    def _measure_head(self) -> None:
        """Much came at once: a long head, or a short one with much of its body."""
        head_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if head_bytes > self._limits.header_bytes_max:
            raise Refused(431, self._too_long())

    def _discard(self, count: int) -> None:
        self._discarded_bytes += count
        if self._discarded_bytes > DISCARD_BYTES_MAX:
            self.transport.abort()

    def _declared_body(self) -> bytes | None:
        """The header line that frames the current request's body, if it has one."""
        for name, value in self.headers:
            if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
                return name + b": " + value
        return None

    def _asks_for_websocket(self) -> bool:
        """Whether the request can become one: what is half of a handshake stays HTTP."""
        given = {name: value.strip().lower() for name, value in self.headers}
        return (
            self.scope["method"] == "GET"
            and given.get(b"upgrade") == b"websocket"
            and given.get(b"sec-websocket-version") == b"13"
            and b"sec-websocket-key" in given
            and self._declared_body() is None
        )

    def _become_websocket(self, rest: bytes) -> None:
        from helexa.util.http_websocket import WebsocketConnection  # wsproto

        self._connections.discard(self)
        self.deadline = NEVER
        connection = WebsocketConnection(self._config, self._state, self._host)
        connection.begin(self.transport, self.url, self.headers, rest)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on as HTTP/1.1, as RFC 9110 allows.

        Java's client offers h2c with its first POST; the parser then skips the
        body, so a second parser reads it, and the connection ends after the answer.
        """
        framing = self._declared_body()
        if self.cycle is not None:
            self.cycle.keep_alive = False
        if framing is None:
            return
        self._parser = httptools.HttpRequestParser(_BodyOnly(self))
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        self.data_received(rest)


def answer_of(status: int, body: bytes) -> bytes:
    """The last answer of a connection, whole."""
    return (
        b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        b"connection: close\r\n\r\n%s"
        % (status, HTTPStatus(status).phrase.encode(), len(body), body)
    )


class _BodyOnly:
    """The parser's calls for a body whose headers were read already."""

    def __init__(self, connection: HttpConnection) -> None:
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete
