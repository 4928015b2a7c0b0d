"""The news of this cortex as a stream: server-sent events, or the same JSON over a websocket.

It begins with a `snapshot`, unless the reader says what it has seen: `?since=ID`, or the
`last-event-id` with which browsers and others come back by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final, get_args

import anyio
from msgspec import Meta
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from helexa.cortex.orchestrator.api.calls import Asked, Call, Nothing, Wish
from helexa.cortex.orchestrator.api.models import ModelRow, model_rows
from helexa.cortex.orchestrator.api.nodes import NodeRow, rows
from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.news import News, Told
from helexa.cortex.orchestrator.observe import Item, Log, Watcher
from helexa.protocol.errors import Busy, RequestRejected, UpgradeRequired
from helexa.protocol.sse import comment

KEEPALIVE_S: Final = 15.0
"""A comment after so much silence: proxies cut what is quiet for a minute."""
RETRY_MS: Final = 2_000
"""What a browser waits before it comes back."""
ID_CHARS_MAX: Final = 128


class Snapshot(News, frozen=True, kw_only=True, tag="snapshot"):
    """All that there is at that moment."""

    nodes: Sequence[NodeRow]
    models: Sequence[ModelRow]


class Watch(Wish, frozen=True, kw_only=True):
    since: Annotated[str, Meta(max_length=ID_CHARS_MAX)] = ""
    """The `id` of the last that was seen."""
    only: Annotated[str, Meta(max_length=1_024)] = ""
    """Words of `event`, separated by commas; empty is all."""


_WORDS: Final = frozenset(str(one.__struct_config__.tag) for one in get_args(Told))
ALWAYS: Final = frozenset(("snapshot", "lagged"))


@dataclass(frozen=True, slots=True)
class ObserveCalls:
    log: Log
    neurons: Neurons
    catalogue: Callable[[], Catalogue]

    async def events(self, asked: Asked[Watch, Nothing]) -> Response:
        since = asked.query.since or asked.request.headers.get("last-event-id", "")
        self.log.check_room()
        return EventStream(self.log, since, self.snapshot, wanted(asked.query.only))

    async def not_a_socket(self, asked: Asked[Watch, Nothing]) -> None:  # noqa: ARG002 - a call's shape
        raise UpgradeRequired

    async def socket(self, asked: Asked[Watch, Nothing], socket: WebSocket) -> None:
        """One message for each of the news, the JSON alone. What the reader says is not heard."""
        only = wanted(asked.query.only)
        self.log.check_room()
        await socket.accept()
        with self.log.watching(asked.query.since, self.snapshot) as watcher:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_tell_socket, watcher, only, socket)
                while (await socket.receive())["type"] != "websocket.disconnect":
                    pass
                tasks.cancel_scope.cancel()

    def snapshot(self) -> Snapshot:
        view = self.neurons.view
        return Snapshot(nodes=rows(self.neurons), models=model_rows(view, self.catalogue()))

    def calls(self) -> list[Call]:
        return [
            Call(
                "GET",
                "/api/v1/observe",
                "What happens here, as it happens.",
                self.events,
                refuses=(Busy, RequestRejected),
                media={EventStream.media_type: Told | Snapshot},
            ),
            Call(
                "GET",
                "/api/v1/observe/ws",
                "The same over a websocket: each message is the `data` of an event.",
                self.not_a_socket,
                status=101,
                refuses=(Busy, RequestRejected, UpgradeRequired),
                socket=self.socket,
            ),
        ]


def wanted(only: str) -> frozenset[str] | None:
    """The words to tell; None is all. Raises RequestRejected for one that is never told."""
    if not only:
        return None
    words = frozenset(word.strip() for word in only.split(","))
    strange = sorted(words - _WORDS - ALWAYS)
    if strange:
        known = ", ".join(sorted(_WORDS))
        raise RequestRejected(f"Nothing is called {strange[0][:80]!r} here; {known} are.", "only")
    return words | ALWAYS


class EventStream(Response):
    """Watches while it is sent, until the reader leaves."""

    media_type = "text/event-stream"

    def __init__(
        self, log: Log, since: str, snapshot: Callable[[], News], only: frozenset[str] | None
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._log = log
        self._since = since
        self._snapshot = snapshot
        self._only = only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        with self._log.watching(self._since, self._snapshot) as watcher:
            await _send(send, b"retry: %d\n\n" % RETRY_MS)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._tell, watcher, send)
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

    async def _tell(self, watcher: Watcher, send: Send) -> None:
        while True:
            items: Sequence[Item] = ()
            with anyio.move_on_after(KEEPALIVE_S) as silence:
                items = await told(watcher, self._only)
            lines = [
                b"id: %s\nevent: %s\ndata: %s\n\n" % (one.id.encode(), one.event.encode(), one.data)
                for one in items
            ]
            await _send(
                send, comment(b"keepalive") if silence.cancelled_caught else b"".join(lines)
            )


async def _tell_socket(watcher: Watcher, only: frozenset[str] | None, socket: WebSocket) -> None:
    # A reader that left is told of by `receive`, which ends this.
    with suppress(WebSocketDisconnect):
        while True:
            for item in await told(watcher, only):
                await socket.send_text(item.data.decode())


async def told(watcher: Watcher, only: frozenset[str] | None) -> Sequence[Item]:
    """The next news of those words, when there are any."""
    while True:
        items = await watcher.read()
        kept = items if only is None else [one for one in items if one.event in only]
        if kept:
            return kept


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
