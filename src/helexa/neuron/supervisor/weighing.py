"""How much memory a replica takes, measured: its whole process group, not its first process.

Pages of files count in full, once for the group: mapped weights are what it is
there for, and whoever maps the same file today may be gone tomorrow. Pages that
forked workers share are divided among them by the kernel, so they count once,
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from helexa.neuron.supervisor.replica import Replica
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import Footprint

WEIGH_EVERY_S: Final = 15.0
PROC: Final = Path("/proc")
_KIB: Final = 1024


class Scales:
    """Weighs the replicas that serve: each soon after it became ready, all of them now and then."""

    def __init__(self, replicas: Mapping[ModelId, Replica]) -> None:
        self._replicas = replicas
        self._found: dict[ModelId, tuple[int, int]] = {}
        """By model: of which process, and its bytes."""
        self._due = anyio.Event()

    def soon(self) -> None:
        """Somebody became ready."""
        self._due.set()

    def bytes_of(self, model: ModelId) -> int:
        """0 where it does not run or was not measured yet."""
        replica = self._replicas.get(model)
        pid, size = self._found.get(model, (0, 0))
        if replica is None or replica.engine is None or replica.engine.process.pid != pid:
            return 0
        return size

    def errors(self) -> Mapping[ModelId, float]:
        """By how much each was estimated too large (or, below 0, too small)."""
        found = {}
        for model, replica in self._replicas.items():
            if size := self.bytes_of(model):
                found[model] = error_ratio(replica.adapter.footprint(replica.spec), size)
        return found

    async def weigh(self) -> None:
        """Until cancelled."""
        while True:
            for model, replica in tuple(self._replicas.items()):
                if replica.engine is not None and replica.engine.process.pid:
                    pid = replica.engine.process.pid
                    # The kernel walks all of its pages, so it is done rarely and elsewhere.
                    size = await anyio.to_thread.run_sync(group_bytes, pid)
                    self._found[model] = pid, size
            for model in self._found.keys() - self._replicas.keys():
                del self._found[model]
            with anyio.move_on_after(WEIGH_EVERY_S):
                await self._due.wait()
            self._due = anyio.Event()


def error_ratio(estimated: Footprint, measured: int) -> float:
    """0 while it holds more than its use and no more than its use and its reserve."""
    if measured < estimated.use:
        return (estimated.use - measured) / measured
    if measured > estimated.total:
        return (estimated.total - measured) / measured
    return 0.0


def group_bytes(leader: int, proc: Path = PROC) -> int:
    """Of the process group of `leader`; 0 where the system does not tell."""
    members = _members(leader, proc)
    if len(members) == 1:
        held = _kib(proc / members[0] / "status")
        return (held.get("RssAnon", 0) + held.get("RssShmem", 0) + held.get("RssFile", 0)) * _KIB
    own = files = 0
    for member in members:
        shared = _kib(proc / member / "smaps_rollup")
        own += shared.get("Pss_Anon", 0) + shared.get("Pss_Shmem", 0)
        files = max(files, _kib(proc / member / "status").get("RssFile", 0))
    return (own + files) * _KIB


def _members(leader: int, proc: Path) -> list[str]:
    try:
        numbers = [entry.name for entry in proc.iterdir() if entry.name.isdecimal()]
    except OSError:
        return []
    return [number for number in numbers if _group(proc / number / "stat") == leader]


def _group(stat: Path) -> int:
    try:
        # A process may be called `) R 1 1`, so its fields begin after the last bracket.
        fields = stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return int(fields[2])
    except (OSError, IndexError, ValueError):
        return 0


def _kib(path: Path) -> dict[str, int]:
    """Lines of `Name:  123 kB`."""
    found = {}
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdecimal():
            found[name] = int(words[0])
    return found
