"""What all calls of the control API share: who may call, the body within bounds, JSON back."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helexa.protocol.errors import AdminTokenInvalid, BodyMalformed, BodyTooLarge

BODY_BYTES_MAX: Final = 64 * 1024

Handler = Callable[[Request], Awaitable[Response]]
_Shape = TypeVar("_Shape", bound=msgspec.Struct)


class Guard(Protocol):
    """Makes a route that answers the holder of the admin token alone."""

    def __call__(self, path: str, handler: Handler, method: str = "GET") -> Route: ...


def guard(admin_token: str) -> Guard:
    expected = admin_token.encode()

    def guarded(path: str, handler: Handler, method: str = "GET") -> Route:
        async def checked(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(given.encode(), expected):
                raise AdminTokenInvalid
            return await handler(request)

        return Route(path, checked, methods=[method])

    return guarded


async def body_of(request: Request, shape: type[_Shape]) -> _Shape:
    """The body as `shape`; an empty one is `{}`. Raises BodyTooLarge or BodyMalformed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLarge(BODY_BYTES_MAX)
    try:
        return msgspec.json.decode(bytes(body) or b"{}", type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyMalformed(f"The body is not what this call takes: {error}.") from error


def answer(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
