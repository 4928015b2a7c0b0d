"""The head of a prompt as a few numbers, equal on every node for equal text.

A cache of prompts is of use to another prompt as far as both begin alike. The
numbers are hashes of ever longer heads of the raw JSON of what is the prompt
(`messages`, `prompt`); whoever compares them from the longest down finds about how
much two prompts share. Heads grow by doubling, so a long prompt costs a dozen.
"""

from __future__ import annotations

import hashlib
from typing import Final

SHORTEST_BYTES: Final = 512
"""Shorter prompts are read faster than they are searched for."""
HEADS_MAX: Final = 10
"""The longest head is 512 doubled nine times: 256 KiB."""


def heads(text: bytes | memoryview) -> tuple[int, ...]:
    """Hashes (63 bits) of the first 512, 1024, 2048, ... bytes, as far as the text goes."""
    found: list[int] = []
    running = hashlib.blake2b(digest_size=8)
    start, end = 0, SHORTEST_BYTES
    while end <= len(text) and len(found) < HEADS_MAX:
        running.update(text[start:end])
        found.append(int.from_bytes(running.copy().digest(), "big") >> 1)
        start, end = end, end * 2
    return tuple(found)
