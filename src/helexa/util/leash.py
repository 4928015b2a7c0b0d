"""A child that cannot outlive its parent, whatever ended the parent, and that keeps to terms.

`command(argv)` wraps a command line so that the kernel signals the process when the
one that started it is gone, SIGKILL included. Linux keeps that request across `exec`,
so `leashed` runs as a small program that asks for it and then becomes the command:
any program can be leashed, not only ours, and no code runs between fork and exec in
the parent (which is unsafe where threads exist). Terms are what the kernel is asked for
besides: limits, CPUs, no new privileges. They hold for all that the command starts, too.

The kernel watches the *thread* that forked. Start leashed children from the thread
that lives as long as the process: the one that runs the event loop.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from helexa.util import leashed

GONE: Final = leashed.GONE
NOT_STARTED: Final = leashed.NOT_STARTED
UNTERMED: Final = leashed.UNTERMED


def command(
    argv: Sequence[str],
    *,
    signum: signal.Signals = signal.SIGTERM,
    parent: int | None = None,
    terms: Mapping[str, str] | None = None,
) -> list[str]:
    """The command line that runs `argv` leashed to this process (or to `parent`).

    `terms` are named in `leashed.TERMS`.
    """
    owner = os.getpid() if parent is None else parent
    text = ",".join(f"{name}={value}" for name, value in (terms or {}).items())
    program = (sys.executable, "-I", "-S", leashed.__file__)
    return [*program, str(owner), str(int(signum)), text, *argv]
