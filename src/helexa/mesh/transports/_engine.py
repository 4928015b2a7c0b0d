"""What iroh's Python bindings need before they can be relied on.

Three facts about somebody else's program, each with its remedy, kept away from
the transport itself: bytes are copied one at a time in Python, futures need to
be told the event loop, and errors carry their text in a method.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
from typing import Any, Final

import iroh
from iroh import iroh_ffi

_BLAMES_SOURCE: Final = re.compile(r"\s*\(\S+\.rs:\d+:\d+\)")
_CLOSED_BY_PEER: Final = re.compile(r"closed by peer: (?:(\d+)|(.*) \(code (\d+)\))\Z", re.DOTALL)


def prepare() -> None:
    """Call inside the running loop, before any other use of the engine. Repeatable."""
    # With RUST_BACKTRACE=1, which developers have in their shells, every refused
    # handshake resolves a backtrace on the event loop: 70 ms that any stranger can
    # spend for us.
    os.environ.setdefault("RUST_LIB_BACKTRACE", "0")
    # Completions arrive on the engine's own threads, where no loop is running.
    iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())  # type: ignore[arg-type]  # Any loop.
    if copies_by_byte(iroh_ffi._UniffiRustBufferBuilder.write):  # noqa: SLF001
        setattr(iroh_ffi._UniffiRustBufferBuilder, "write", _write_at_once)  # noqa: SLF001, B010


def copies_by_byte(write: Any) -> bool:
    """Whether the bindings write a buffer in a Python loop (4 MB/s), as later generators do not.

    Looked at, not looked up by version: `importlib.metadata` brings the email package and
    zip files, 1.7 MB that a node needs for nothing else.
    """
    return "enumerate" in write.__code__.co_names


def _write_at_once(builder: Any, value: bytes) -> None:
    """What the generated method does, by one memmove instead of a loop over bytes."""
    length = len(value)
    if not length:
        return
    with builder._reserve(length):  # noqa: SLF001
        buffer = builder.rbuf
        start = ctypes.addressof(buffer.data.contents) + buffer.len
        ctypes.memmove(start, bytes(value), length)


def explain(error: iroh.IrohError) -> str:
    """One line for a person: the innermost cause, without paths of the machine that built it."""
    lines = [_BLAMES_SOURCE.sub("", line).strip() for line in error.message().splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")


def closed_by_peer(cause: str) -> tuple[int, str] | None:
    """Code and reason from the engine's sentence about a closed connection."""
    match = _CLOSED_BY_PEER.match(cause)
    if match is None:
        return None
    return (int(match[1]), "") if match[1] is not None else (int(match[3]), match[2])
