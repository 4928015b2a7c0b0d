"""The folder for this run's sockets: empty at the start, gone at the end.

It lies in the neuron's home, so that what a killed neuron left there is found
and removed by its next start; or, where that path is too long for a socket, in
a folder of its own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from helexa.util.sockets import UNIX_PATH_BYTES_MAX

LONGEST_NAME: Final = "12345678/child.sock"
"""The longest path of a socket inside; see `engine.launched`."""


@contextmanager
def run_folder(home: Path) -> Iterator[Path]:
    """Only for who holds the home: whatever lies there from before is removed."""
    folder = home / "run"
    shutil.rmtree(folder, ignore_errors=True)
    if len(os.fsencode(folder / LONGEST_NAME)) <= UNIX_PATH_BYTES_MAX:
        folder.mkdir(mode=0o700)
    else:
        folder = Path(tempfile.mkdtemp(prefix="helexa-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
