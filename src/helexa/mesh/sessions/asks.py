"""What was asked of a peer and is not answered yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import anyio

from helexa.protocol.messages import ProvisioningResponse, Refused, Unsupported, Wire

log = logging.getLogger(__name__)

ASKS_MAX: Final = 1_024


class PeerRefused(Exception):
    """The peer understood and did not do it."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.code = refusal.code
        self.message = refusal.message
        self.retry_after_s = refusal.retry_after_s


class PeerUnsupported(Exception):
    """The peer's build does not know what was asked, or answered what this one does not know."""

    def __init__(self, tag: str) -> None:
        super().__init__(f"message {tag!r} is not known to both sides")
        self.tag = tag


class AnswerTimeout(Exception):
    """No answer within the time given; the link may be fine."""


Progress: TypeAlias = Callable[[ProvisioningResponse], None]


@dataclass(eq=False, slots=True)
class Ask:
    """One that waits for its answer."""

    on_progress: Progress | None
    done: anyio.Event = field(default_factory=anyio.Event)
    answered: Wire | None = None
    unknown_tag: str | None = None

    def answer(self) -> Wire | None:
        """The answer, or None when the session ended first. Raises what the answer means."""
        if self.unknown_tag is not None:
            raise PeerUnsupported(self.unknown_tag)
        match self.answered:
            case Refused() as refusal:
                raise PeerRefused(refusal)
            case Unsupported(tag=tag):
                raise PeerUnsupported(tag)
            case answered:
                return answered


class Asks:
    """At most ASKS_MAX at a time, by the id of the frame that asked."""

    def __init__(self) -> None:
        self._waiting: dict[int, Ask] = {}

    @contextmanager
    def waiting(self, number: int, on_progress: Progress | None) -> Iterator[Ask]:
        """Raises AnswerTimeout when too many wait already: this peer will not answer one more."""
        if len(self._waiting) >= ASKS_MAX:
            raise AnswerTimeout(f"{ASKS_MAX} asks already wait for this peer")
        ask = self._waiting[number] = Ask(on_progress)
        try:
            yield ask
        finally:
            del self._waiting[number]

    def settle(self, number: int, answer: Wire) -> None:
        """An answer came. One that nobody waits for any more came after its timeout."""
        ask = self._waiting.get(number)
        if ask is None or ask.done.is_set():
            return
        if isinstance(answer, ProvisioningResponse) and not answer.final:
            self._pass_on(ask, answer)
        else:
            ask.answered = answer
            ask.done.set()

    def settle_unknown(self, number: int, tag: str) -> None:
        """The answer, or the refusal, is of a kind that this build does not know."""
        ask = self._waiting.get(number)
        if ask is not None and not ask.done.is_set():
            ask.unknown_tag = tag
            ask.done.set()

    def abandon(self) -> None:
        """The session ended: nobody will be answered."""
        for ask in self._waiting.values():
            ask.done.set()

    def _pass_on(self, ask: Ask, progress: ProvisioningResponse) -> None:
        if ask.on_progress is not None:
            try:
                ask.on_progress(progress)
            except Exception:
                # The reader of the link calls this; it must not end for a callback's sake.
                log.exception("a progress callback failed")
