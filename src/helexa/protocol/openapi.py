"""What the OpenAPI documents of all sockets share: refusals by status, and schemas of types.

What a call refuses is a list of errors, and everything that a document says of a refusal is
read from them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from helexa.protocol.errors import (
    Busy,
    HelexaError,
    KeyInvalid,
    PeerLost,
)

VERSION: Final = "3.1.0"
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
REF: Final = "#/components/schemas/{name}"

BY_SERVER: Final = {
    400: "`http_400`: not HTTP",
    408: "`http_408`: headers that take too long",
    417: "`http_417`: an `expect` other than `100-continue`",
    431: "`http_431`: headers that are too large",
    501: "`http_501`: a transfer encoding other than `chunked`",
    503: "`http_503`: one connection too many",
}
"""What is refused before any call is looked for."""


class Schemas:
    """The schemas of types, by type, and the components that they refer to."""

    def __init__(self, shapes: Sequence[Any]) -> None:
        refs, self.components = msgspec.json.schema_components(shapes, ref_template=REF)
        # Not every annotation can be hashed, and each has one name.
        self._by_name = dict(zip(map(str, shapes), refs, strict=True))

    def of(self, shape: Any) -> dict[str, Any]:
        return self._by_name[str(shape)]


def content(media: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Of a stream each event is described, as readers of these documents expect it: `data` is a
    text, and most often JSON.
    """
    if media != EVENTS:
        return {"schema": schema}
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
    event = {"data": data, "event": {"type": "string"}, "id": {"type": "string"}}
    return {"schema": {"type": "object", "properties": event, "required": ["data"]}}


def refusals(
    kinds: Iterable[type[HelexaError]],
    envelope: Mapping[str, Any],
    *,
    besides: Collection[int] = (),
    headers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The responses of a call that refuses with these; `besides` are told otherwise.

    `headers` are on each of them.
    """
    by_status: dict[int, list[str]] = {status: [words] for status, words in BY_SERVER.items()}
    waits: set[int] = set()
    for kind in kinds:
        words = f"`{kind.code}`"
        if words not in by_status.setdefault(kind.status, []):
            by_status[kind.status].append(words)
        if issubclass(kind, Busy | PeerLost):
            waits.add(kind.status)
    found = {}
    for status in sorted(by_status.keys() - set(besides)):
        more: dict[str, Any] = dict(headers or {})
        if status in waits:
            more["Retry-After"] = {
                "description": "Seconds after which another try may succeed.",
                "schema": {"type": "integer", "minimum": 0},
            }
        if status == KeyInvalid.status:
            more["WWW-Authenticate"] = {"schema": {"type": "string"}}
        found[str(status)] = {
            "description": "; ".join(by_status[status]),
            **({"headers": more} if more else {}),
            "content": {JSON: {"schema": envelope}},
        }
    return found


def phrase(status: int) -> str:
    return HTTPStatus(status).phrase
