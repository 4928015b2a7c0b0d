"""One load while it goes on: how far it is, and when it may be done.

Where weights are mapped, the kernel counts the pages of files that the child
holds; where they are read, the bytes that it read. Both are in /proc and cost
nothing until somebody asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helexa.neuron.supervisor.load_rates import LoadWork, PastLoad, Taken, remaining_s
from helexa.neuron.supervisor.load_times import LoadTimes
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Phase, Progress
from helexa.runtime.contract import Footprint, ReplicaSpec

SAMPLE_EVERY_S: Final = 0.25
PROGRAM_BYTES: Final = 18 * 1024 * 1024
"""Of files that a child maps before any weights: Python, its libraries, the engine."""
_LOOKS: Final = 64
_PROC: Final = Path("/proc")


@dataclass(slots=True, kw_only=True)
class Loading:
    """From the launch of a child until it serves."""

    model: ModelId
    how: str
    work: LoadWork
    times: LoadTimes
    clock: Callable[[], float]
    begun_at: float
    pid: int = 0
    """Of the child, once there is one."""
    _sampled_at: float = -1.0
    _taken: Taken | None = None

    def progress(self) -> Progress:
        now = self.clock()
        if self.pid and now - self._sampled_at >= SAMPLE_EVERY_S:
            self._sampled_at = now
            self._taken = _further(self._taken, taken(self.pid))
        total = self.work.cold + self.work.warm
        left_s = remaining_s(
            self.times.rates,
            self.work,
            scale=self.times.scale(self.model, self.how),
            elapsed_s=now - self.begun_at,
            taken=self._taken,
        )
        return Progress(
            phase=Phase.LOADING,
            bytes_done=min(total, self._taken.weights) if self._taken else 0,
            bytes_total=total,
            eta_s=round(left_s, 2),
        )

    def ended(self) -> PastLoad:
        """As it is remembered, now that it serves."""
        seconds = self.clock() - self.begun_at
        return PastLoad(model=self.model, how=self.how, work=self.work, seconds=seconds)


def how(runtime: str, spec: ReplicaSpec) -> str:
    """What besides the model decides how long a load takes, as a key."""
    own = "".join(f" {name}={value}" for name, value in sorted(spec.arguments.items()))
    return (
        f"{runtime} {spec.files.weights_bytes} {spec.context_tokens}x{spec.slots}"
        f"{' deterministic' if spec.deterministic else ''}{own}"
    )


def work_of(spec: ReplicaSpec, need: Footprint, warm: float = 0.0) -> LoadWork:
    """`warm` is the share of the weights that the system holds in memory."""
    weights = spec.files.weights_bytes + spec.files.projector_bytes
    in_memory = int(weights * min(1.0, max(0.0, warm)))
    return LoadWork(cold=weights - in_memory, warm=in_memory, other=max(0, need.total - weights))


def warm_share(weights: Path) -> float:
    """The share of a file that is in the page cache, by looking at some places of it.

    A read that must not wait fails where the disk would be needed, and brings
    nothing in. 0 where the system or the file system cannot tell.
    """
    flag = getattr(os, "RWF_NOWAIT", None)
    if flag is None:
        return 0.0
    found = 0
    try:
        with weights.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            place = [bytearray(1)]
            for look in range(_LOOKS):
                try:
                    found += os.preadv(file.fileno(), place, size * look // _LOOKS, flag)
                except BlockingIOError:
                    continue
    except OSError:
        return 0.0
    return found / _LOOKS


def taken(pid: int, proc: Path = _PROC) -> Taken | None:
    """None where the system does not tell."""
    try:
        held = _numbers(proc / str(pid) / "status")
        read = _numbers(proc / str(pid) / "io").get("rchar", 0)
    except OSError:
        return None
    mapped = max(0, held.get("RssFile", 0) * 1024 - PROGRAM_BYTES)
    own = held.get("RssAnon", 0) * 1024
    if read > mapped:
        return Taken(weights=read, other=max(0, own - read))
    return Taken(weights=mapped, other=own)


def _numbers(path: Path) -> dict[str, int]:
    found = {}
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0])
    return found


def _further(before: Taken | None, now: Taken | None) -> Taken | None:
    """Pages that were used up, by a device for one, are given back: what was done stays done."""
    if before is None or now is None:
        return now or before
    return Taken(weights=max(before.weights, now.weights), other=max(before.other, now.other))
