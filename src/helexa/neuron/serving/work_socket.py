"""The private socket on which cortexes of this host reach this neuron without the mesh.

It lies in the neuron's home, or in a folder of its own where that path is too
long for a socket. Each cortex gets a token with the path, over its own
authenticated link.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from helexa.neuron.serving.doors import WorkDoor
from helexa.protocol.ids import NodeId
from helexa.protocol.work import DataPath
from helexa.util.host import host_mark
from helexa.util.sockets import UNIX_PATH_BYTES_MAX

KIND: Final = "unix"


@contextmanager
def work_socket_path(home: Path) -> Iterator[Path]:
    """Where the socket may be made; a folder made for it is gone after the block."""
    folder = home / "run"
    path = folder / "work.sock"
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
        folder.mkdir(mode=0o700, exist_ok=True)
        yield path
        return
    made = Path(tempfile.mkdtemp(prefix="helexa-"))
    try:
        yield made / "work.sock"
    finally:
        shutil.rmtree(made, ignore_errors=True)


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
