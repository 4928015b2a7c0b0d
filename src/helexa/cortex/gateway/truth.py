"""The header lines of an answer that say how it was made: by whom, at which price, how late.

Put together once a request, from lines that were made once for each target: what is usual
costs one concatenation.
"""

from __future__ import annotations

import re
from typing import Final

from helexa.cortex.gateway.seams import Attempt, Ticket
from helexa.protocol.ids import is_model_id
from helexa.protocol.routing import MODEL_HEADER, Label, Target
from helexa.util.upstream import Response

SERVED_BY: Final = b"x-helexa-served-by"
_AT_ONCE: Final = b"x-helexa-queue-ms: 0\r\n"
_SAID: Final = re.compile(rb"[A-Za-z0-9._:@+=; -]{1,400}\Z")
"""What another cortex may say of who serves, for us to pass it on."""


class Truth:
    def __init__(self, *, tells_who: bool = True) -> None:
        """`tells_who`: whether clients and other cortexes are told which node served."""
        self._tells_who = tells_who

    def lines(self, ticket: Ticket, target: Target, attempt: Attempt, response: Response) -> bytes:
        """For the answer that this attempt gives; `response` is the target's."""
        label = attempt.label
        model = attempt.model if attempt.model != ticket.model else ""
        if target.via is not None:
            attempt.said_by = _said_by(response)
            model = _model_of(response) or model
        if ticket.ingress.quiet == b"1":
            return b""
        found = self._who(label, attempt) + label.price_line
        if ticket.queue_s:
            found += b"x-helexa-queue-ms: %d\r\n" % round(ticket.queue_s * 1000)
        else:
            found += _AT_ONCE
        if model:
            found += b"x-helexa-model: %s\r\n" % model.encode("ascii")
        if len(ticket.attempts) > 1:
            found += b"x-helexa-attempts: %d\r\n" % len(ticket.attempts)
        return found

    def _who(self, label: Label, attempt: Attempt) -> bytes:
        if not self._tells_who:
            return b""
        if attempt.said_by:
            return b"x-helexa-served-by: %s; via=%s\r\n" % (attempt.said_by, label.name)
        return label.who_line


def _said_by(response: Response) -> bytes:
    said = response.header(SERVED_BY)
    return said if said is not None and _SAID.match(said) else b""


def _model_of(response: Response) -> str:
    """What another cortex served it by, where that is not what it was asked for."""
    said = (response.header(MODEL_HEADER) or b"").decode("latin-1")
    return said if said and is_model_id(said) else ""
