"""The small program between a fork and a command: it asks the kernel, then becomes the command.

    python -I -S leashed.py PARENT SIGNAL TERM=VALUE,... PROGRAM ARGUMENTS...

`leash` writes that line. Every load of a model waits for this program, so it imports what
it needs and nothing for looks: `typing` and `signal` alone would double its time.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
GONE = 125
"""Exit status of a child whose parent died before the leash was on."""
UNTERMED = 126
"""Of one that the kernel does not grant the terms."""
NOT_STARTED = 127
OOM_SCORE_MOST = 1000
_DESCRIPTOR_MOST = 1 << 20
"""The kernel closes a range at once, however long it is."""


def hold(parent: int, signum: int) -> bool:
    """Ask the kernel to signal this process when `parent` is gone; False when it already is."""
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, signum)
    # The parent may have died between the fork and the request: the kernel does not look back.
    return os.getppid() == parent


def _core(value: str) -> None:
    """Bytes of a memory dump: of a model's, and of what it was asked."""
    resource.setrlimit(resource.RLIMIT_CORE, (int(value), int(value)))


def _files(value: str) -> None:
    """Open at once: so many, or as many as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = int(value) if most == resource.RLIM_INFINITY else min(int(value), most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _file_bytes(value: str) -> None:
    """Of one file that it writes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), int(value)))


def _oom(value: str) -> None:
    """By so much rather than its parent it is taken when memory runs out, of 1000."""
    if sys.platform != "linux":
        return
    file = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    try:
        raised = min(OOM_SCORE_MOST, int(os.read(file, 16)) + int(value))
        os.pwrite(file, str(raised).encode(), 0)
    finally:
        os.close(file)


def _privileges(value: str) -> None:
    """`none`: no program that it starts gets more than it has, whatever its file says."""
    if value == "none" and sys.platform == "linux":
        _prctl(PR_SET_NO_NEW_PRIVS, 1)


def _closed_from(value: str) -> None:
    """Descriptors from this number on, also those that somebody made to be inherited.

    uvloop closes none of its own accord.
    """
    os.closerange(int(value), _DESCRIPTOR_MOST)


def _umask(value: str) -> None:
    os.umask(int(value, 8))


def _nice(value: str) -> None:
    os.nice(int(value))


def _cpus(value: str) -> None:
    """Numbers with colons between."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {int(one) for one in value.split(":")})


TERMS = {
    "core": _core,
    "files": _files,
    "file_bytes": _file_bytes,
    "oom": _oom,
    "privileges": _privileges,
    "closed_from": _closed_from,
    "umask": _umask,
    "nice": _nice,
    "cpus": _cpus,
}


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _become(argv: Sequence[str]) -> int:
    parent, signum, terms, program = int(argv[0]), int(argv[1]), argv[2], list(argv[3:])
    if not hold(parent, signum):
        return GONE
    for term in filter(None, terms.split(",")):
        name, _, value = term.partition("=")
        try:
            TERMS[name](value)
        except (OSError, ValueError, KeyError) as error:
            os.write(2, f"the kernel does not grant {term}: {error}\n".encode())
            return UNTERMED
    try:
        os.execvp(program[0], program)  # noqa: S606 - becoming the command is the purpose
    except OSError as error:
        os.write(2, f"{program[0]}: {error.strerror}\n".encode())
    return NOT_STARTED


if __name__ == "__main__":
    sys.exit(_become(sys.argv[1:]))
