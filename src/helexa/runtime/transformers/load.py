"""How busy our child says that it is."""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.runtime.contract import EngineLoad


class _Said(msgspec.Struct):
    running: int | None = None
    waiting: int | None = None
    kv_share: float | None = None
    cached_tokens: int | None = None


_said: Final = msgspec.json.Decoder(_Said)


def read(body: bytes) -> EngineLoad:
    try:
        found = _said.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return EngineLoad()
    return EngineLoad(
        running=found.running,
        waiting=found.waiting,
        kv_share=found.kv_share,
        cached_tokens=found.cached_tokens,
    )
