"""What a call of the control API is: a method, a path, typed things in, a typed thing out.

The types are those of the function that answers: what is read, what is refused and what
the OpenAPI document says all come from its annotations, so that none can be untrue.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Generic, TypeVar, get_args, get_type_hints
from urllib.parse import parse_qsl

import anyio
import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket

from helexa.protocol.errors import (
    BodyLate,
    BodyMalformed,
    BodyTooLarge,
    HelexaError,
    MediaTypeUnsupported,
    RequestRejected,
)

BODY_BYTES_MAX: Final = 128 * 1024
BODY_WITHIN_S: Final = 30.0
QUERY_FIELDS_MAX: Final = 32
JSON: Final = "application/json"
_JSON_TYPE: Final = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_FIELD: Final = re.compile(r"`\$\.([A-Za-z_]\w*)")


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No query, or no body: whoever sends a field is mistaken, and would otherwise not see it."""


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of what callers send: a field too many is refused for the same reason."""


Q = TypeVar("Q", bound=msgspec.Struct)
B = TypeVar("B", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Asked(Generic[Q, B]):
    """One call as it came: the parts of the path, its query and its body."""

    path: Mapping[str, str]
    query: Q
    body: B
    request: HTTPConnection
    """For what streams: its headers and its end."""


Socket = Callable[[Asked[Any, Any], WebSocket], Awaitable[None]]
Act = Callable[[Asked[Any, Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Call:
    """One line of the route table. `act` takes one `asked` and returns what is sent as JSON, or a
    response that writes itself.
    """

    method: str
    path: str
    """With `{name}` for each part that differs; `{model}` may hold slashes."""
    does: str
    """A sentence for the document."""
    act: Act
    status: int = 200
    refuses: tuple[type[HelexaError], ...] = ()
    """Beside what all calls refuse."""
    media: Mapping[str, Any] = field(default_factory=dict)
    """By media type the type of the answer, where it is not JSON of what `act` returns."""
    also: Mapping[int, Any] = field(default_factory=dict)
    """Answers by status that are neither the usual one nor an error."""
    is_open: bool = False
    """Answered without a token."""
    socket: Socket | None = None
    """What it is as a websocket; `act` then answers who asked for none."""

    @cached_property
    def shapes(self) -> tuple[type[msgspec.Struct], type[msgspec.Struct], Any]:
        """The types of its query, its body and its answer."""
        hints = get_type_hints(self.act)
        query, body = get_args(hints["asked"])
        return query, body, hints["return"]

    @property
    def has_body(self) -> bool:
        return self.method in ("POST", "PUT", "PATCH")


def query_of(raw: bytes, shape: type[Q]) -> Q:
    """Raises RequestRejected naming the parameter."""
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except ValueError as error:
        raise RequestRejected("The query of the URL cannot be read.") from error
    given = dict(pairs)
    if len(given) < len(pairs):
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise RequestRejected(f"`{twice[:80]}` is in the query twice.", twice[:80])
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        name = _FIELD.search(str(error))
        raise RequestRejected(
            f"The query is not what this call takes: {error}.", name[1] if name else None
        ) from error


async def bytes_of(request: Request) -> bytes:
    """The whole body. Raises BodyTooLarge or BodyLate."""
    body = bytearray()
    try:
        with anyio.fail_after(BODY_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise BodyTooLarge(BODY_BYTES_MAX)
    except TimeoutError:
        raise BodyLate from None
    return bytes(body)


def body_of(raw: bytes, media_type: str | None, shape: type[B]) -> B:
    """The body as `shape`; an empty one is `{}`. Raises MediaTypeUnsupported or BodyMalformed.

    One that names no type is taken for JSON, as it always was.
    """
    if raw and media_type is not None and not _JSON_TYPE.fullmatch(media_type):
        raise MediaTypeUnsupported(media_type)
    try:
        return _decoded(raw or b"{}", shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyMalformed(f"The body is not what this call takes: {error}.") from error


def _decoded(raw: bytes, shape: type[B]) -> B:
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError:
        # `1.0` is an integer to JSON Schema, and to languages that have one kind of number.
        return msgspec.convert(_with_integers(msgspec.json.decode(raw)), shape)


def _with_integers(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_with_integers(one) for one in value]
        case dict():
            return {name: _with_integers(one) for name, one in value.items()}
        case _:
            return value
