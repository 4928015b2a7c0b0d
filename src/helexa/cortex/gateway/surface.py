"""Other ways to ask for a chat completion: a surface translates in and out, and serves nothing.

    client's body -> open -> a chat completion's body -> the same way as every request
    chat events -> speech -> the client's events

So keys, limits, routing, retries and continuation are one for all surfaces, and a neuron
sees chat completions alone. What chat completions cannot express is refused by `open` with
the client's name of the field; nothing is dropped silently.
"""

from __future__ import annotations

from typing import Protocol

from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.envelope import Envelope
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import Visit
from helexa.protocol.errors import HelexaError
from helexa.util.http_cycle import Cycle


class Speech(Protocol):
    """One request of a surface: what is sent for it, and what its client hears of the answer.

    Everything here is pure but for `closed`.
    """

    @property
    def body(self) -> bytes:
        """The request as a chat completion; it asks for usage wherever it streams."""
        ...

    @property
    def keepalive(self) -> bytes:
        """What shows a waiting client that somebody works: a comment, or the surface's ping."""
        ...

    def events(self, data: bytes) -> bytes:
        """The client's events for one or more whole events of a chat completion."""
        ...

    def end(self) -> bytes:
        """What follows the last event of a complete answer."""
        ...

    def whole(self, body: bytes) -> bytes:
        """The client's answer for a chat completion that is not streamed.

        Raises HelexaError for what is no chat completion.
        """
        ...

    def named(self, error: HelexaError) -> HelexaError:
        """The same error with the client's names of fields."""
        ...

    def failed(self, error: HelexaError) -> bytes:
        """The last event of a stream that cannot go on."""
        ...

    def closed(self, *, complete: bool) -> None:
        """Called once, when all is over; `complete` if the client was sent the whole answer."""
        ...


class Surface(Protocol):
    """What a file in `endpoints/` gives to serve something as chat completions."""

    async def open(self, body: bytes, visit: Visit, ingress: Ingress) -> Speech:
        """Raises HelexaError with the client's names of fields."""
        ...


class TranslatedAnswer(Answer):
    """Takes a chat completion's answer, and gives the client what the surface makes of it."""

    __slots__ = ("speech",)

    def __init__(self, cycle: Cycle, ids: bytes, envelope: Envelope) -> None:
        super().__init__(cycle, ids, envelope)
        self.speech: Speech | None = None
        """Set once the body was read; before that there can only be a refusal."""

    async def whole(
        self, status: int, content_type: bytes, body: bytes, more_lines: bytes = b""
    ) -> None:
        if status == 200 and self.speech is not None:
            body = self.speech.whole(body)
        await super().whole(status, content_type, body, more_lines)

    async def write(self, data: bytes) -> None:
        assert self.speech is not None
        if said := self.speech.events(data):
            await super().write(said)

    def write_now(self, data: bytes) -> bool:  # noqa: ARG002 - it has to be translated
        return False

    async def end(self, data: bytes = b"") -> None:
        assert self.speech is not None
        said = self.speech.events(data) if data else b""
        await super().end(said + self.speech.end())

    async def keepalive(self, comment: bytes | None = None) -> None:
        if comment is None and self.speech is not None:
            comment = self.speech.keepalive
        await super().keepalive(comment)

    async def fail(self, error: HelexaError) -> None:
        await super().fail(error if self.speech is None else self.speech.named(error))

    def close(self) -> None:
        if self.speech is not None:
            self.speech.closed(complete=self.ended and self.outcome == "ok")

    def _last_event(self, error: HelexaError) -> bytes:
        assert self.speech is not None
        return self.speech.failed(error)
