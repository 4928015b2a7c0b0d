"""The neurons whose servers a request came through, so that one that comes back is seen.

A neuron may serve the models of any server, and that server may be another neuron, a
gateway that leads to neurons, or in the end this very one. Each neuron adds a mark to what
it asks of a server; who finds its own mark, or too many, refuses. A mark is drawn by lot
at each start: a stranger's server learns nothing by it.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from helexa.protocol.errors import LoopDetected

VIA_HEADER: Final = b"x-helexa-via"
PASSED_MAX: Final = 4
"""Neurons that each ask a server of theirs, one behind the other."""
_MARKS: Final = re.compile(rb"[0-9a-f]{16}(?:,[0-9a-f]{16}){0,15}\Z")


def new_mark() -> bytes:
    return secrets.token_hex(8).encode()


def is_sound(via: bytes) -> bool:
    return _MARKS.match(via) is not None


def onward(via: bytes | None, mark: bytes) -> bytes:
    """What to pass on. Raises LoopDetected for what must not go on.

    What is no list of marks is left out: whoever writes nonsense hides only from itself.
    """
    if via is None or not is_sound(via):
        return mark
    passed = via.split(b",")
    if mark in passed:
        raise LoopDetected("The request has passed this neuron already.")
    if len(passed) > PASSED_MAX:
        raise LoopDetected(
            f"The request has passed {len(passed)} neurons; at most {PASSED_MAX} are taken."
        )
    return via + b"," + mark
