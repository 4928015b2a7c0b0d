"""One load while it goes on: how far it is, and when it may be done.

Where weights are mapped, the kernel counts the pages of files that the child
holds; where they are read, the bytes that it read. Both are in /proc and cost
nothing until somebody asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio

from helexa.neuron.supervisor.load_rates import (
    LoadWork,
    PastLoad,
    PhaseTimes,
    Taken,
    ThisLoad,
    remaining_s,
)
from helexa.neuron.supervisor.load_times import LoadTimes
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Phase, Progress
from helexa.runtime.contract import Footprint, ReplicaSpec

SAMPLE_EVERY_S: Final = 0.25
PROGRAM_BYTES: Final = 18 * 1024 * 1024
"""Of files that a child maps before any weights: Python, its libraries, the engine."""
_LOOKS: Final = 64
_FAMILY_MAX: Final = 64
_GROWTH: Final = 0.01
"""Share of all that is more than a page here and there."""
_FULL: Final = 0.97
"""Of what was reckoned; the rest is left to how it was reckoned."""
_PROC: Final = Path("/proc")


class Loading:
    """From the launch of a child until it serves."""

    def __init__(
        self,
        load: ThisLoad,
        times: LoadTimes,
        clock: Callable[[], float],
        *,
        taken: Callable[[int], Taken | None] | None = None,
    ) -> None:
        """`taken` says what a process has taken in; it is `/proc` where none is given."""
        self.load = load
        self._take = taken or taken_by
        self.pid = 0
        """Of the child, once there is one."""
        self.is_over = False
        self.begun_at = clock()
        self._clock = clock
        self._times = times.expected(load)
        self._taken: Taken | None = None
        self._weights_at = self._other_at = self.begun_at
        """When either was last seen to grow."""

    @property
    def model(self) -> ModelId:
        return ModelId(self.load.model)

    async def watch(self) -> None:
        """Until it is over: when which phase ended is seen only by who looks."""
        while not self.is_over:
            self.look()
            await anyio.sleep(SAMPLE_EVERY_S)

    def look(self) -> None:
        seen = self._take(self.pid) if self.pid else None
        if seen is None:
            return
        before = self._taken or Taken(weights=0, other=0)
        now, work = self._clock(), self.load.work
        if seen.weights > before.weights + _GROWTH * work.weights:
            self._weights_at = now
        if seen.other > before.other + _GROWTH * work.other:
            self._other_at = now
        # Pages that were used up, by a device for one, are given back: what was done stays done.
        self._taken = Taken(
            weights=max(before.weights, seen.weights), other=max(before.other, seen.other)
        )

    def progress(self) -> Progress:
        now, work = self._clock(), self.load.work
        left_s = remaining_s(
            self._times,
            work,
            elapsed_s=now - self.begun_at,
            taken=self._taken,
            full_since_s=now - self._full_at if self._is_full else None,
        )
        return Progress(
            phase=Phase.LOADING,
            bytes_done=min(work.weights, self._taken.weights) if self._taken else 0,
            bytes_total=work.weights,
            eta_s=round(left_s, 2),
        )

    def ended(self) -> PastLoad:
        """As it is remembered, now that it serves."""
        weights_s = self._weights_at - self.begun_at
        other_s = max(0.0, self._other_at - self._weights_at)
        begin_s = self._clock() - self._full_at
        took = PhaseTimes(weights_s=weights_s, other_s=other_s, begin_s=begin_s)
        return PastLoad(load=self.load, took=took)

    @property
    def _full_at(self) -> float:
        return max(self._weights_at, self._other_at)

    @property
    def _is_full(self) -> bool:
        if self._taken is None:
            return False
        work = self.load.work
        return (
            self._taken.weights >= _FULL * work.weights and self._taken.other >= _FULL * work.other
        )


def how(runtime: str, spec: ReplicaSpec) -> str:
    """What besides the model decides how long a load takes, as a key."""
    own = "".join(f" {name}={value}" for name, value in sorted(spec.arguments.items()))
    return (
        f"{runtime} {spec.files.weights_bytes} {spec.context_tokens}x{spec.slots}"
        f"{' deterministic' if spec.deterministic else ''}{own}"
    )


def this_load(runtime: str, spec: ReplicaSpec, need: Footprint, warm: float = 0.0) -> ThisLoad:
    """`warm` is the share of the weights that the system holds in memory."""
    return ThisLoad(model=spec.files.model, how=how(runtime, spec), work=work_of(spec, need, warm))


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


def taken_by(pid: int, proc: Path = _PROC) -> Taken | None:
    """By the process and what it started, since an engine may load in a worker of its own.

    None where the system does not tell.
    """
    found = [one for each in _family(pid, proc) if (one := _taken_by_one(each, proc)) is not None]
    if not found:
        return None
    # Workers that map one file all have its pages, and each counts them.
    return Taken(weights=max(one.weights for one in found), other=sum(one.other for one in found))


def _family(pid: int, proc: Path) -> list[int]:
    found = [pid]
    for member in found:
        try:
            # A kernel without this list is one where the first process has to do.
            children = (proc / str(member) / "task" / str(member) / "children").read_text("ascii")
        except OSError:
            continue
        found += [int(each) for each in children.split()][: _FAMILY_MAX - len(found)]
    return found


def _taken_by_one(pid: int, proc: Path) -> Taken | None:
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
