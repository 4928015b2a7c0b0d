"""From a path to a call, and from whatever happens in it to an answer.

A table of its own instead of the framework's, because a model's name may hold slashes:
`models/{model}/load` has to be known as a path of its own whatever the method is, or a wrong
method would be answered as an unknown model.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from helexa.cortex.orchestrator.api.calls import (
    JSON,
    Asked,
    Call,
    Nothing,
    body_of,
    bytes_of,
    query_of,
)
from helexa.cortex.orchestrator.api.door import Door
from helexa.protocol.errors import (
    AdminTokenInvalid,
    HelexaError,
    InternalFault,
    MethodNotAllowed,
    RouteUnknown,
    SignatureInvalid,
    envelope,
)

_log = logging.getLogger(__name__)

_PART: Final = re.compile(r"\{(\w+)\}")


class Routes:
    """An ASGI application over a table of calls."""

    def __init__(self, calls: Iterable[Call], door: Door) -> None:
        by_path: dict[str, dict[str, Call]] = {}
        for call in calls:
            by_path.setdefault(call.path, {})[call.method] = call
        # What goes on after a model's name comes first: the name would swallow it.
        self._paths = [
            (_pattern(path), methods)
            for path, methods in sorted(
                by_path.items(), key=lambda one: (one[0].endswith("{model}"), one[0])
            )
        ]
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._upgraded(WebSocket(scope, receive, send))
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            response = await self._answered(Request(scope, receive))
            await response(scope, receive, sending)
        except HelexaError as error:
            if begun:
                raise
            await refusal(error)(scope, receive, send)
        except Exception:
            _log.exception("control_api_fault", extra={"path": scope["path"]})
            if begun:
                raise
            await refusal(InternalFault())(scope, receive, send)

    async def _upgraded(self, socket: WebSocket) -> None:
        try:
            call, path = self._found("GET", socket.url.path)
            if call.socket is None:
                raise RouteUnknown("websocket", socket.url.path)
            self._door.prove(self._door.admit(socket), b"")
            query = query_of(socket.scope["query_string"], call.shapes[0])
            await call.socket(Asked(path, query, Nothing(), socket), socket)
        except HelexaError as error:
            if socket.application_state is not WebSocketState.CONNECTING:
                raise
            await socket.send_denial_response(refusal(error))

    async def _answered(self, request: Request) -> Response:
        call, path = self._found(request.method, request.url.path)
        claim = None if call.is_open else self._door.admit(request)
        raw = await bytes_of(request) if call.has_body else b""
        self._door.prove(claim, raw)
        return await _performed(call, path, request, raw)

    def _found(self, method: str, path: str) -> tuple[Call, Mapping[str, str]]:
        for pattern, methods in self._paths:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            call = methods.get("GET" if method == "HEAD" else method)
            if call is None:
                raise MethodNotAllowed(method, allowed(methods))
            return call, match.groupdict()
        raise RouteUnknown(method, path)


def allowed(methods: Iterable[str]) -> str:
    return ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ())}))


async def _performed(call: Call, path: Mapping[str, str], request: Request, raw: bytes) -> Response:
    wants, takes, _ = call.shapes
    query = query_of(request.scope["query_string"], wants)
    body = body_of(raw, request.headers.get("content-type"), takes)
    said = await call.act(Asked(path, query, body, request))
    return said if isinstance(said, Response) else answer(said, call.status)


def answer(value: object, status: int = 200) -> Response:
    """JSON. Never kept by anybody on the way: it may hold a secret, and is old at once."""
    return Response(
        msgspec.json.encode(value),
        status,
        media_type=JSON,
        headers={"cache-control": "no-store"},
    )


def refusal(error: HelexaError) -> Response:
    headers: dict[str, Any] = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allowed
    if isinstance(error, AdminTokenInvalid | SignatureInvalid):
        headers["www-authenticate"] = "Bearer"
    return Response(envelope(error), error.status, media_type=JSON, headers=headers)


def _pattern(path: str) -> re.Pattern[str]:
    parts = _PART.split(path)
    text = "".join(
        re.escape(part)
        if number % 2 == 0
        else f"(?P<{part}>{'.+' if part == 'model' else '[^/]+'})"
        for number, part in enumerate(parts)
    )
    return re.compile(text, re.DOTALL)
