"""How busy llama.cpp's server is: its counters, and what its slots keep.

Both are answered between two steps of the engine, or while one runs, and cost it
microseconds.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import msgspec

from helexa.runtime.contract import EngineLoad

COUNTERS_PATH: Final = "/metrics"
SLOTS_PATH: Final = "/slots"

_LINE: Final = re.compile(rb"^llamacpp:(\w+) ([0-9.e+]+)$", re.MULTILINE)


class _Slot(msgspec.Struct):
    n_ctx: int = 0
    n_prompt_tokens: int = 0
    """Kept in it, also after its request."""


_slots: Final = msgspec.json.Decoder(list[_Slot])


def of_counters(body: bytes) -> EngineLoad:
    found = dict(_LINE.findall(body))
    return EngineLoad(
        running=_whole(found.get(b"requests_processing")),
        waiting=_whole(found.get(b"requests_deferred")),
        cached_tokens=_whole(found.get(b"prompt_tokens_cached_total")),
    )


def with_slots(load: EngineLoad, body: bytes) -> EngineLoad:
    try:
        slots = _slots.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return load
    room = sum(slot.n_ctx for slot in slots)
    kept = sum(slot.n_prompt_tokens for slot in slots)
    return replace(load, kv_share=min(1.0, max(0.0, kept / room))) if room > 0 else load


def _whole(value: bytes | None) -> int | None:
    try:
        return None if value is None else int(float(value))
    except (ValueError, OverflowError):
        return None
