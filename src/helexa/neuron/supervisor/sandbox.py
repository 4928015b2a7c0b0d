"""A child in a sandbox: the command line that puts it there, and what it may see from inside.

`bubblewrap` gives it namespaces of its own: the system and its model to read, its scratch
folder and its cache to write, the devices that it was lent, and nothing else; no network
where it answers on a Unix socket. `systemd` gives it a control group with a limit of
memory, and takes no view of files.

Pure: what is looked for on the disk is looked for in `check` and `Needs.readable`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import helexa
from helexa.protocol.work import Device
from helexa.runtime.contract import ReplicaSpec

_BWRAP: Final = "bwrap"
_SYSTEMD: Final = "systemd-run"
_TRY_WITHIN_S: Final = 10.0
_BOOTED: Final = Path("/run/systemd/system")
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt/rocm", "/sys")
"""Engines read what processors, memory and devices there are from /sys."""
_CONFIGURED: Final = (
    "alternatives", "fonts", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "OpenCL", "passwd",
    "resolv.conf", "ssl", "vulkan",
)  # fmt: skip
"""Of /etc, what programs need to run; the rest may hold secrets that root can read."""
_OF_MAKERS: Final[Mapping[str, Sequence[str]]] = {
    "nvidia": (
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-modeset",
        "/dev/nvidia-caps",
    ),
    "amd": ("/dev/kfd", "/dev/dri"),
}
_MEMORY_SLACK: Final = 1.25
"""A limit that kills is set above what was reckoned, not at it."""
_MEMORY_LEAST: Final = 512 << 20
_LINKS_MAX: Final = 4_096


class SandboxUnusable(Exception):
    """It was asked for and cannot be had here; the message is for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    kind: str
    of_user: bool = False
    """Asked of the user's own manager of systemd: the neuron does not run as root."""
    readable: tuple[Path, ...] = ()
    """What the operator lets every child read besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Of one child."""

    scratch: Path
    home: Path | None = None
    readable: Sequence[Path] = ()
    devices: Sequence[Device] = ()
    network: bool = False
    memory_bytes: int = 0
    """Of main memory that it was granted; 0 is not known."""


def check(
    kind: str,
    *,
    find: Callable[[str], str | None] = shutil.which,
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run,
    booted: Path = _BOOTED,
) -> None:
    """Raises SandboxUnusable with the words for an operator."""
    if kind == "none":
        return
    program = _BWRAP if kind == "bubblewrap" else _SYSTEMD
    if find(program) is None:
        package = "bubblewrap" if kind == "bubblewrap" else "systemd"
        raise SandboxUnusable(
            f'neuron.sandbox is "{kind}" and {program} is not installed; on Debian or Ubuntu: '
            f"apt-get install {package}"
        )
    if kind == "systemd":
        if not booted.exists():
            raise SandboxUnusable(
                'neuron.sandbox is "systemd" and this machine was not started by systemd'
            )
        return
    trial = (_BWRAP, "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "true")
    try:
        done = run(trial, capture_output=True, text=True, timeout=_TRY_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxUnusable(f'neuron.sandbox is "bubblewrap" and it does not run: {error}') from (
            error
        )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no reason was given"]
        raise SandboxUnusable(f'neuron.sandbox is "bubblewrap" and it does not run: {said[0]}')


def wrapped(sandbox: Sandbox, argv: Sequence[str], needs: Needs) -> list[str]:
    """The command line in place of `argv`."""
    match sandbox.kind:
        case "bubblewrap":
            return [*_bubblewrap(sandbox, needs), "--", *argv]
        case "systemd":
            return [*_systemd(sandbox, needs), "--", *argv]
        case _:
            return list(argv)


def exit_status(sandbox: Sandbox, status: int) -> int:
    """What the command's own end would have been: bubblewrap tells a signal as a shell does."""
    if sandbox.kind == "bubblewrap" and 128 < status < 128 + 65:
        return 128 - status
    return status


def gives_up_privileges(sandbox: Sandbox) -> bool:
    """By itself, before it starts the command. Some systems have it start with those of root."""
    return sandbox.kind == "bubblewrap"


def readable(spec: ReplicaSpec, argv: Sequence[str]) -> tuple[Path, ...]:
    """What a child of this replica has to read: its model, and the engine that it is."""
    files, where = spec.files, spec.installation
    found: list[Path] = []
    for path in (files.weights, files.projector):
        if path is not None and not files.server:
            found += _with_targets(path)
    for program in (where.python, where.program, *(Path(one) for one in argv[:1])):
        if program is not None and program.is_absolute():
            found += _of_program(program)
    # Not `sys.path`: the folder that the neuron was started in may be on it, a person's home.
    found.append(Path(helexa.__file__).parents[1])
    found += [Path(one) for one in argv if one.endswith(".py") and one.startswith("/")]
    return tuple(dict.fromkeys(found))


def _bubblewrap(sandbox: Sandbox, needs: Needs) -> Sequence[str]:
    words = [
        _BWRAP,
        "--die-with-parent",
        # It leaves root's own to whoever root starts, and with these there is no wall.
        *("--cap-drop", "ALL"),
        *("--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if needs.network else ("--unshare-net",)),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", "--tmpfs", "/tmp"),  # noqa: S108
    ]
    for folder in _SYSTEM:
        # On most systems /bin and /lib are links into /usr, and have to stay links.
        path = Path(folder)
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), folder]
        else:
            words += ["--ro-bind-try", folder, folder]
    for name in _CONFIGURED:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    own = [folder for folder in (needs.home, needs.scratch) if folder is not None]
    # A program that lies beside the neuron's home does not bring that along.
    found = [path for path in needs.readable if not any(one.is_relative_to(path) for one in own)]
    for path in _outermost((*found, *sandbox.readable)):
        words += ["--ro-bind-try", str(path), str(path)]
    for node in _device_nodes(needs.devices):
        words += ["--dev-bind-try", node, node]
    if needs.home is not None:
        words += ["--bind", str(needs.home), str(needs.home)]
    words += ["--bind", str(needs.scratch), str(needs.scratch), "--chdir", str(needs.scratch)]
    return words


def _systemd(sandbox: Sandbox, needs: Needs) -> Sequence[str]:
    words = [_SYSTEMD, "--scope", "--quiet", "--collect", "--property=TasksMax=4096"]
    if sandbox.of_user:
        words.append("--user")
    if needs.memory_bytes:
        most = max(_MEMORY_LEAST, round(needs.memory_bytes * _MEMORY_SLACK))
        words += [f"--property=MemoryMax={most}", "--property=MemorySwapMax=0"]
    return words


def _device_nodes(devices: Iterable[Device]) -> Sequence[str]:
    nodes: list[str] = []
    for one in devices:
        nodes += _OF_MAKERS.get(one.vendor, ())
        if one.vendor == "nvidia":
            nodes.append(f"/dev/nvidia{one.index}")
    return tuple(dict.fromkeys(nodes))


def _outermost(paths: Iterable[Path]) -> Sequence[Path]:
    """Without those that lie in others, and without what the system's folders have already."""
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda one: len(one.parts)):
        if not any(path.is_relative_to(other) for other in (*kept, *map(Path, _SYSTEM))):
            kept.append(path)
    return kept


def _of_program(program: Path) -> Sequence[Path]:
    """The folder that a program was installed to, and the one that it was made from.

    A virtual environment is links into another installation, which has the library.
    """
    found = []
    for path in (program, program.resolve()):
        is_in_bin = path.parent.name in ("bin", "sbin")
        found += [path.parent.parent if is_in_bin else path.parent, path]
    return [one for one in found if len(one.parts) > 1]


def _with_targets(path: Path) -> Sequence[Path]:
    """A file or folder, and where its links lead: caches of a hub are made of links.

    A file that is one part of several needs the others as well.
    """
    stem, mark, _ = path.stem.rpartition("-of-")
    if mark:
        parts = path.parent.glob(f"{stem.rpartition('-')[0]}-*-of-*{path.suffix}")
        entries = sorted(parts)[:_LINKS_MAX]
    elif path.is_dir():
        entries = [path, *sorted(path.iterdir())[:_LINKS_MAX]]
    else:
        entries = [path]
    found = dict.fromkeys((path, *(one for one in entries if not path.is_dir())))
    return [*found, *(one.resolve() for one in entries if one.is_symlink()), path.resolve()]
