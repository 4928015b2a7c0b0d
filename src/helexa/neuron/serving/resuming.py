"""A stream that broke off elsewhere, finished by a model of this neuron.

The request is served like any other, but for what its engine is asked: that is one of the
ways of `runtime.continuing`, the next where one of them turns out not to lead on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

import msgspec

from helexa.neuron.supervisor.engine import Engine
from helexa.neuron.supervisor.replica import Replica
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.continuation import CONTINUE_PATH, Continuation
from helexa.protocol.errors import BodyMalformed, NotContinuable
from helexa.protocol.openai import body as bodies
from helexa.protocol.work import Usage
from helexa.runtime.continuing.asking import Continuing
from helexa.runtime.contract import Asking, ChildRequest, Endpoint

DELIVERED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of what a client has of an answer, beside its request."""
_PATHS: Final = (Endpoint.CHAT, Endpoint.COMPLETIONS)

_continuation: Final = msgspec.json.Decoder(Continuation)


class Resume(enum.Enum):
    """The kind of work."""

    CONTINUE = CONTINUE_PATH


class Course:
    """What is asked of the engine in place of the request itself."""

    def __init__(self, wanted: Continuation) -> None:
        self.wanted = wanted
        self._made: Continuing | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.wanted.path)

    def check(self, roster: Roster, replica: Replica, *, is_streaming: bool) -> None:
        """Raises NotContinuable."""
        if not is_streaming:
            raise NotContinuable("Only a stream can be gone on with.")
        own = roster.capability(replica.spec.files.model).digest
        if not own or own != self.wanted.digest:
            raise NotContinuable("These are other weights than the first part came from.")

    def attempts(self, engine: Engine, body: bytes) -> Iterator[Asking[ChildRequest]]:
        """Raises NotContinuable where there is no way."""
        self._made = Continuing(self.wanted, body, engine.adapter, engine.spec)
        return self._made.attempts()

    def own(self, used: Usage | None) -> Usage | None:
        """Of the counts of the whole answer, those of this part."""
        resumed = self._made.resumed if self._made is not None else 0
        if used is None or not resumed:
            return used
        # Thoughts come first.
        thoughts = min(used.reasoning, resumed)
        return msgspec.structs.replace(
            used,
            completion=max(0, used.completion - (resumed - thoughts)),
            reasoning=used.reasoning - thoughts,
        )


def course(body: bytes) -> Course:
    """Raises BodyMalformed."""
    wanted = bodies.typed(_continuation, body)
    if wanted.path not in [one.value for one in _PATHS]:
        raise BodyMalformed(reason="`path` is one of a generation.", field="path")
    return Course(wanted)
