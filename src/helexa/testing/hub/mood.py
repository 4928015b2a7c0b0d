"""How the hub behaves: how fast, how well, and what goes wrong next.

A test changes the mood while the hub runs. Faults are used up in order by the requests
that they match; what follows behaves well again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio


@dataclass(slots=True, kw_only=True)
class Fault:
    """What happens to the next `times` requests whose path contains `path`."""

    path: str = ""
    times: float = 1
    status: int = 0
    """Answered instead of the content."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    truncate_after: int | None = None
    """Bytes of body, then the connection ends."""
    stall_after: int | None = None
    """Bytes of body, then silence until the client leaves."""
    corrupt_at: int | None = None
    """This byte of the file is another, where the answer holds it."""
    ranges: bool = True
    """False: the range that was asked for is ignored."""


@dataclass(slots=True)
class Mood:
    rate_bytes_per_s: float = math.inf
    """Of all connections together."""
    connection_bytes_per_s: float = math.inf
    ranges: bool = True
    lengths: bool = True
    """False: no content-length; the end of the connection is the end of the body."""
    etags: bool = True
    token: str = ""
    """Needed for gated and private repositories."""
    cdn_tokens_expire: bool = False
    """The redirects' signatures are good for one request each."""
    faults: list[Fault] = field(default_factory=list)

    def fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.path in path:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault
        return None


class Pace:
    """Spends a rate in turns: every block waits for the one before it to have had its time."""

    def __init__(self, bytes_per_s: Callable[[], float]) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    async def spend(self, count: int) -> None:
        rate = self._bytes_per_s()
        if math.isinf(rate):
            return
        now = anyio.current_time()
        self._free_at = max(self._free_at, now) + count / rate
        await anyio.sleep(self._free_at - now)
