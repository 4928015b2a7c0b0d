"""One request for a message, between its client and the chat completion that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from helexa.cortex.gateway.anthropic_envelope import AnthropicEnvelope
from helexa.cortex.gateway.envelope import PassedOn
from helexa.cortex.gateway.translation import chat, chat_to_messages
from helexa.cortex.gateway.translation.chat_to_messages import Asked
from helexa.cortex.gateway.translation.messages_places import Place, named
from helexa.protocol.anthropic import answers
from helexa.protocol.errors import (
    ErrorBody,
    HelexaError,
    Relayed,
    RuntimeMalformed,
)

_LINE: Final = b"data: {"
_encode: Final = msgspec.json.Encoder().encode


class Names:
    """What the client calls the fields of the chat completion that its request became."""

    __slots__ = ("_places", "_thinks")

    def __init__(self, places: Sequence[Place], *, thinks: bool = True) -> None:
        self._places = places
        self._thinks = thinks

    def of(self, error: HelexaError) -> HelexaError:
        field = error.said.param if isinstance(error, PassedOn) else error.param
        if field is None:
            return error
        ours = named(field, self._places, thinks=self._thinks)
        if ours == field:
            return error
        message = error.message.replace(f"`{field}`", f"`{ours}`")
        if isinstance(error, PassedOn):
            said = msgspec.structs.replace(error.said, param=ours, message=message)
            return PassedOn(error.body, said, error.answer_status, error.retry_after)
        return Renamed(error, message, ours)


class Renamed(HelexaError):
    """An error whose field has another name to the client."""

    def __init__(self, error: HelexaError, message: str, field: str) -> None:
        super().__init__()
        self.__dict__.update(status=error.status, kind=error.kind, code=error.code)
        self._error = error
        self._message = message
        self._field = field

    @property
    def message(self) -> str:
        return self._message

    @property
    def param(self) -> str:
        return self._field

    @property
    def retry_after_s(self) -> int | None:
        return self._error.retry_after_s


class MessageSpeech:
    """A `Speech`."""

    __slots__ = ("_asked", "_envelope", "_events", "_names", "body")

    keepalive = answers.PING

    def __init__(
        self, body: bytes, asked: Asked, names: Names, envelope: AnthropicEnvelope
    ) -> None:
        self.body = body
        self._asked = asked
        self._names = names
        self._envelope = envelope
        self._events = chat_to_messages.Events(asked)

    def events(self, data: bytes) -> bytes:
        feed = self._events.feed
        if data.startswith(_LINE) and data.find(b"\n") == len(data) - 2:
            # What a paced stream brings: one event of one line.
            said = feed(data[len(_LINE) - 1 : -2])
        else:
            said = b"".join([feed(payload) for payload in chat.payloads(data)])
        if (error := self._events.error) is not None:
            self._events.end()
            return said + self._told(error)
        # A node's comment says that it is still there.
        return said or (answers.PING if data.startswith(b":") else b"")

    def end(self) -> bytes:
        return self._events.end()

    def whole(self, body: bytes) -> bytes:
        return _encode(chat_to_messages.message(body, self._asked))

    def named(self, error: HelexaError) -> HelexaError:
        return self._names.of(error)

    def failed(self, error: HelexaError) -> bytes:
        return self._envelope.event(error)

    def closed(self, *, complete: bool) -> None:
        """Nothing is kept."""

    def _told(self, said: ErrorBody) -> bytes:
        """What a node says within a stream has no status; its code has one."""
        return self._envelope.event(Relayed(said.code or "", said.message))


class CountSpeech:
    """A `Speech` of a request for a number of tokens."""

    __slots__ = ("_envelope", "_names", "body")

    keepalive = answers.PING

    def __init__(self, body: bytes, names: Names, envelope: AnthropicEnvelope) -> None:
        self.body = body
        self._names = names
        self._envelope = envelope

    def events(self, data: bytes) -> bytes:  # noqa: ARG002
        """Nobody asks for a stream of one number."""
        return b""

    def end(self) -> bytes:
        return b""

    def whole(self, body: bytes) -> bytes:
        try:
            count = _count.decode(body).count
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RuntimeMalformed("The node sent something that is no count of tokens.") from error
        return _encode(answers.TokenCount(count))

    def named(self, error: HelexaError) -> HelexaError:
        return self._names.of(error)

    def failed(self, error: HelexaError) -> bytes:
        return self._envelope.event(error)

    def closed(self, *, complete: bool) -> None:
        """Nothing is kept."""


class _Count(msgspec.Struct):
    count: int


_count: Final = msgspec.json.Decoder(_Count)
