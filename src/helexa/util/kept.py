"""The keeper's program, and how what belongs to a child is found and ended.

    python -I -S kept.py MARK

It lives as long as its node, so it imports what it needs and nothing for looks.
"""

import os
import signal
import sys
import time
from collections.abc import Collection, Sequence

MARK = "KEPT_BY"
"""The variable that all of a child's processes inherit."""
LEFT_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.01
_QUIET_LOOKS = 2
"""Looks on end that found nobody: who forked and died during the first left a child to find."""
_PROC = "/proc"
_STARTED_AT = 19
"""Among the fields that follow a process's name."""
_TRACKER = b"multiprocessing.resource_tracker"
_TIDIED_WITHIN_S = 1.0


def end_all(sessions: Collection[int], mark: str, within_s: float, *, since: int = 0) -> None:
    """Kill what belongs to these until nobody does. Blocks.

    Last and a moment later those who then tidy up behind the others. `since` is as `started`
    has it: who is older belongs to nobody who was started then, and is not looked at closely.
    """
    started_s = time.monotonic()
    quiet = 0
    while quiet < _QUIET_LOOKS and time.monotonic() < started_s + within_s:
        found = belonging(sessions, mark, since=since)
        is_late = time.monotonic() > started_s + _TIDIED_WITHIN_S
        for pid in found:
            if not is_late and _tidies_up(f"{_PROC}/{pid}"):
                continue
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        quiet = 0 if found else quiet + 1
        if found:
            time.sleep(_LOOK_EVERY_S)


def started(pid: int, proc: str = _PROC) -> int:
    """When, in the kernel's own count; 0 where the system does not tell."""
    fields = _fields(f"{proc}/{pid}")
    return int(fields[_STARTED_AT]) if fields else 0


def belonging(
    sessions: Collection[int], mark: str, *, since: int = 0, proc: str = _PROC
) -> Sequence[int]:
    """The living of these sessions, or with this mark; never this process."""
    word = f"{MARK}={mark}".encode()
    try:
        numbers = [int(name) for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return ()
    return [
        pid
        for pid in numbers
        if pid != os.getpid() and _is_alive_of(f"{proc}/{pid}", sessions, word, since)
    ]


def _tidies_up(folder: str) -> bool:
    """It takes away the shared memory that others of a Python program leave, and then ends."""
    try:
        with open(f"{folder}/cmdline", "rb") as file:  # noqa: PTH123
            return _TRACKER in file.read()
    except OSError:
        return False


def _is_alive_of(folder: str, sessions: Collection[int], word: bytes, since: int) -> bool:
    fields = _fields(folder)
    if not fields or fields[0] in (b"Z", b"X") or int(fields[_STARTED_AT]) < since:
        return False
    if int(fields[3]) in sessions:
        return True
    try:
        with open(f"{folder}/environ", "rb") as file:  # noqa: PTH123
            return word in file.read()
    except OSError:
        return False  # It is gone, or somebody else's.


def _fields(folder: str) -> Sequence[bytes]:
    """Those of a process from its state on; none where it is gone."""
    try:
        with open(f"{folder}/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            # A process may be called `) R 1 1`, so its fields begin after the last bracket.
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return ()


def _keep(mark: str) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        number = int(line[1:])
        if line[0] == "+":
            sessions.add(number)
        else:
            sessions.discard(number)
    end_all(sessions, f"{mark}.", LEFT_WITHIN_S, since=started(os.getpid()))


if __name__ == "__main__":
    _keep(sys.argv[1])
