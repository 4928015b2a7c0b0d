"""The private socket on which cortexes of this host reach this neuron without the mesh.

Each cortex gets a token with the path, over its own authenticated link.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from helexa.neuron.serving.doors import WorkDoor
from helexa.protocol.ids import NodeId
from helexa.protocol.work import DataPath
from helexa.util.host import host_mark

KIND: Final = "unix"
NAME: Final = "work.sock"


class WorkPaths:
    """`helexa.neuron.announce.Paths` for that one socket."""

    def __init__(self, path: Path, door: WorkDoor) -> None:
        self._path = path
        self._door = door

    def offer(self, cortex: NodeId) -> tuple[DataPath, ...]:
        token = self._door.token_for(cortex)
        return (DataPath(kind=KIND, address=str(self._path), token=token, host=host_mark()),)

    def withdraw(self, cortex: NodeId, paths: tuple[DataPath, ...]) -> None:
        for path in paths:
            self._door.forget(cortex, path.token)
