"""A stream that passes by, from its first chunk to however it ends. The hot loop of a gateway."""

from __future__ import annotations

from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.delivered import Record
from helexa.cortex.gateway.envelope import PassedOn
from helexa.cortex.gateway.seams import Attempt
from helexa.cortex.gateway.usage import UsageTap
from helexa.protocol import sse
from helexa.protocol.errors import (
    HelexaError,
    PeerLost,
    Relayed,
    UpstreamFailed,
    UpstreamTimeout,
)
from helexa.protocol.sse import EventTooLong
from helexa.util.upstream import Response, UpstreamError, UpstreamTimedOut


async def relay(
    response: Response,
    first: bytes,
    tap: UsageTap,
    answer: Answer,
    record: Record | None,
    attempt: Attempt,
) -> HelexaError | None:
    """Pass it on until it is complete; else the reason why it is not, which nobody was told.

    What the client gets, always whole events, is kept in `record`, and counted in `attempt`
    as it goes.
    """

    def taken(chunk: bytes) -> bool:
        """Nearly all of a stream goes this way: from socket to socket, without a task."""
        # Asked before it is written: what does not pass is given to `pass_on`, and only once.
        if not (tap.passes(chunk) and answer.write_now(chunk)):
            return False
        attempt.delivered_tokens += 1
        if record is not None:
            record.keep(chunk)
        return True

    chunk = first
    begun = False
    try:
        while chunk:
            if data := tap.pass_on(chunk):
                if not begun:
                    begun = True
                    await answer.begin_stream()
                    response.pass_to(taken)
                await answer.write(data)
                attempt.delivered_tokens += 1
                if record is not None:
                    record.keep(data)
            chunk = await response.chunk()
    except UpstreamTimedOut:
        return UpstreamTimeout("The node fell silent while it answered.")
    except UpstreamError:
        if tap.is_done:
            return None  # Of what is lost then, nothing was missing.
        return said(tap) or PeerLost("The node was lost while it answered.")
    except EventTooLong:
        return UpstreamFailed("The node sent an event that is too long.")
    rest = tap.rest()
    if tap.is_done:
        if rest:
            await answer.write(rest)
        return None
    return said(tap) or UpstreamFailed("The node ended its answer before it was complete.")


def said(tap: UsageTap) -> HelexaError | None:
    """The error that the stream itself named."""
    if tap.error is None:
        return None
    known = Relayed(tap.error.code or UpstreamFailed.code, tap.error.message)
    return PassedOn(sse.payload(tap.error_event), tap.error, known.status)
