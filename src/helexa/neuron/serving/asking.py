"""The questions of an adapter to its running child, asked one after the other."""

from __future__ import annotations

from typing import Final, TypeVar

from helexa.neuron.serving.replies import JSON
from helexa.neuron.supervisor.engine import Engine
from helexa.protocol.errors import RuntimeExited, UpstreamTimeout
from helexa.runtime.contract import Asking, ChildRequest
from helexa.util.upstream import UpstreamError, UpstreamTimedOut

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
ANSWER_WITHIN_S: Final = 60.0
"""A busy engine answers between two of its steps."""

T = TypeVar("T")


async def asked(engine: Engine, asking: Asking[T]) -> T:
    """What came of it. Raises HelexaError: what a refusal means, or that nobody answers."""
    try:
        question = next(asking)
        while True:
            question = asking.send(await _answer(engine, question))
    except StopIteration as end:
        found: T = end.value
        return found
    finally:
        asking.close()


async def _answer(engine: Engine, question: ChildRequest) -> bytes:
    try:
        with await engine.pool.request(
            question.method,
            question.path,
            (JSON, *engine.plan.headers),
            question.body,
            first_byte_timeout_s=ANSWER_WITHIN_S,
            # Nothing that is asked here changes anything.
            resend_safe=True,
        ) as response:
            body = await response.read(ANSWER_BYTES_MAX)
    except UpstreamTimedOut as error:
        raise UpstreamTimeout(reason="The model's runtime fell silent.") from error
    except UpstreamError as error:
        raise RuntimeExited(reason="The model's runtime is gone.") from error
    if response.status != 200:
        raise engine.adapter.refusal(response.status, body, engine.spec)
    return body
