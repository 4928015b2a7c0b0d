"""A child that takes far more memory than it was granted is ended before it takes everybody's.

An engine can be made to grow by what a client asks: grammars that branch without end took
one gigabyte a second. The kernel's own end of it comes late, and stops all of the machine.
So what its processes hold is looked at twice a second, which costs microseconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import anyio

from helexa.runtime.contract import Exit, ExitReason
from helexa.util.units import format_bytes

LOOK_EVERY_S: Final = 0.5
SLACK_BYTES: Final = 1 << 30
"""That a child may take besides: small models need more than a multiple of what they are."""
PROCESSES_MAX: Final = 256
_PROC: Final = Path("/proc")
_PAGE: Final = os.sysconf("SC_PAGESIZE")


def limit_bytes(granted: int, factor: float) -> int:
    """0 is no limit: none is wanted, or nobody knows what it needs."""
    return round(granted * factor) + SLACK_BYTES if granted and factor else 0


async def overgrown(pid: int, granted: int, factor: float) -> Exit:
    """Return once it is; never where there is no limit or the system does not tell."""
    limit = limit_bytes(granted, factor)
    if not limit or not pid:
        await anyio.sleep_forever()
    while True:
        await anyio.sleep(LOOK_EVERY_S)
        held = held_bytes(pid)
        if held > limit:
            return Exit(
                reason=ExitReason.OVERGROWN,
                detail=f"it took {format_bytes(held)} of memory where {format_bytes(granted)} "
                "were granted to it",
            )


def held_bytes(leader: int, proc: Path = _PROC) -> int:
    """Memory of its own of a process and all below it, without what files could give back."""
    held, waiting, seen = 0, [str(leader)], 0
    while waiting and seen < PROCESSES_MAX:
        one = waiting.pop()
        seen += 1
        try:
            words = (proc / one / "statm").read_text(encoding="ascii").split()
            held += (int(words[1]) - int(words[2])) * _PAGE
            below = (proc / one / "task" / one / "children").read_text(encoding="ascii")
        except (OSError, ValueError, IndexError):
            continue  # Gone meanwhile, or a system that has no such files.
        waiting += below.split()
    return held
