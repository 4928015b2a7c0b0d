"""Where pictures stand in a chat body, and the body again with other pictures in their places.

Everything else stays the client's own bytes: only the messages that hold an exchanged
picture are written anew, and of them only that one member.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from helexa.protocol.errors import PictureRefused
from helexa.protocol.openai import body as bodies


@dataclass(frozen=True, slots=True)
class Place:
    """Of one picture: `messages[message].content[part].image_url.url`."""

    message: int
    part: int
    url: str

    @property
    def field(self) -> str:
        return f"messages[{self.message}].content[{self.part}].image_url.url"


class _Url(msgspec.Struct):
    url: str


class Part(msgspec.Struct):
    type: str
    image_url: _Url | None = None


class _Message(msgspec.Struct):
    content: str | list[Part] | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]


_chat: Final = msgspec.json.Decoder(_Chat)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode


def may_hold(body: bytes) -> bool:
    """Quick, and never wrongly no: a name could only hide behind an escape."""
    return b'"image_url"' in body or b"\\u" in body


def places(body: bytes) -> Sequence[Place]:
    """Every picture of every message, whoever says it. Raises BodyMalformed."""
    return tuple(
        Place(message, at, part.image_url.url)
        for message, at, part in parts(body)
        if part.image_url is not None
    )


def parts(body: bytes) -> Iterator[tuple[int, int, Part]]:
    """Every part of every message, with its place. Raises BodyMalformed."""
    for index, message in enumerate(bodies.typed(_chat, body).messages):
        if isinstance(message.content, list):
            for at, part in enumerate(message.content):
                yield index, at, part


def refused(place: Place, why: Exception) -> PictureRefused:
    return PictureRefused(reason=f"The picture in `{place.field}` {why}.", field=place.field)


def exchanged(body: bytes, urls: Mapping[Place, str]) -> bytes:
    """`body` with these URLs in place of those that stand there."""
    fields = bodies.fields(body)
    messages: list[Any] = list(_list.decode(fields["messages"]))
    by_message: dict[int, dict[int, str]] = {}
    for place, url in urls.items():
        by_message.setdefault(place.message, {})[place.part] = url
    for index, parts in by_message.items():
        message: dict[str, Any] = dict(_members.decode(messages[index]))
        content: list[Any] = list(_list.decode(message["content"]))
        for at, url in parts.items():
            part: dict[str, Any] = dict(_members.decode(content[at]))
            part["image_url"] = {**_members.decode(part["image_url"]), "url": url}
            content[at] = part
        message["content"] = content
        messages[index] = message
    return _encode({**fields, "messages": messages})
