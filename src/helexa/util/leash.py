"""A child that cannot outlive its parent, whatever ended the parent.

`command(argv)` wraps a command line so that the kernel signals the process when the
one that started it is gone, SIGKILL included. Linux keeps that request across `exec`,
so this file runs as a small program that asks for it and then becomes the command:
any program can be leashed, not only ours, and no code runs between fork and exec in
the parent (which is unsafe where threads exist).

The kernel watches the *thread* that forked. Start leashed children from the thread
that lives as long as the process: the one that runs the event loop.

Only the standard library, because it runs with `-I -S` for a start of a few milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

PR_SET_PDEATHSIG: Final = 1
GONE: Final = 125
"""Exit status of a child whose parent died before the leash was on."""
NOT_STARTED: Final = 127


def command(
    argv: Sequence[str], *, signum: signal.Signals = signal.SIGTERM, parent: int | None = None
) -> list[str]:
    """The command line that runs `argv` leashed to this process (or to `parent`)."""
    owner = os.getpid() if parent is None else parent
    return [sys.executable, "-I", "-S", __file__, str(owner), str(int(signum)), *argv]


def hold(parent: int, signum: int) -> bool:
    """Ask the kernel to signal this process when `parent` is gone; False when it already is."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died between the fork and the request: the kernel does not look back.
    return os.getppid() == parent


def _become(argv: Sequence[str]) -> int:
    parent, signum, program = int(argv[0]), int(argv[1]), list(argv[2:])
    if not hold(parent, signum):
        return GONE
    try:
        os.execvp(program[0], program)  # noqa: S606 - becoming the command is the purpose
    except OSError as error:
        os.write(2, f"{program[0]}: {error.strerror}\n".encode())
    return NOT_STARTED


if __name__ == "__main__":
    sys.exit(_become(sys.argv[1:]))
