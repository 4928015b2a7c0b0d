"""W3C Trace Context: the two headers that tie one request's way together for those who trace it.

helexa records no spans, so both are passed on as they came, to every node and to the runtime
at the end. What is malformed is dropped: a request is never refused for it.
"""

from __future__ import annotations

import re
from typing import Final

PARENT_HEADER: Final = b"traceparent"
STATE_HEADER: Final = b"tracestate"
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]*)?\Z")
_STATE: Final = re.compile(rb"[\x20-\x7e\t]{1,512}\Z")
_PARENT_BYTES_MAX: Final = 256


def is_sound(parent: bytes) -> bool:
    """Whether it is a `traceparent`, of this version or a later one."""
    found = _PARENT.match(parent) if len(parent) <= _PARENT_BYTES_MAX else None
    if found is None:
        return False
    version, trace, span, more = found.groups()
    if version == b"ff" or not trace.strip(b"0") or not span.strip(b"0"):
        return False
    return version != b"00" or more is None


def passed_on(parent: bytes | None, state: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
    """The headers for the next node; none where the parent is missing or malformed."""
    if not parent or not is_sound(parent):
        return ()
    if not state or not _STATE.match(state):
        return ((PARENT_HEADER, parent),)
    return ((PARENT_HEADER, parent), (STATE_HEADER, state))


def in_logs(parent: bytes | None) -> dict[str, str]:
    """The trace's id, for a log line; empty where there is none."""
    return {"trace": parent[3:35].decode()} if parent and is_sound(parent) else {}
