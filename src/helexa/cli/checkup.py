"""What `helexa doctor` looks at. Each look answers with findings and changes nothing."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import psutil

from helexa.cli.certificate_checkup import of_certificate
from helexa.cli.client import Client, Unreachable, running
from helexa.cli.finding import Finding
from helexa.cli.hardware_checkup import of_hardware
from helexa.cli.mesh_checkup import of_mesh
from helexa.cli.model_checkup import of_models
from helexa.cli.nodes import explain_taken
from helexa.cli.server_checkup import of_servers
from helexa.cli.verb import Failed
from helexa.config import Config, ConfigRefused
from helexa.util.sockets import Address, AddressTaken, listen_tcp
from helexa.util.units import format_bytes

DISK_FREE_MIN: Final = 1 << 30
BUILT_AFTER_S: Final = 1_735_689_600
"""The first day of 2025: this program is younger, so no clock before it is right."""

NATIVE: Final = {
    "xllamacpp": "llama.cpp, which runs the models",
    "uvloop": "the event loop",
    "httptools": "HTTP",
    "nacl": "node keys",
}
SECRETS: Final = (
    "cortex/node.key",
    "cortex/admin.token",
    "cortex/helexa.db",
    "cortex/responses.db",
    "neuron/node.key",
    "neuron/api.token",
    "operator/operator.key",
    "up.key",
)


def of_python() -> list[Finding]:
    version = platform.python_version()
    findings = [Finding("ok", "python", f"{version} in {sys.prefix}")]
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        findings = [Finding("error", "python", f"{version}; needed: 3.11 to 3.13", "make up")]
    for name, use in NATIVE.items():
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            what = f"{name} ({use}) cannot be imported: {error}"
            findings.append(Finding("error", "packages", what, "make clean && make up"))
    if not any(one.about == "packages" for one in findings):
        findings.append(Finding("ok", "packages", ", ".join(NATIVE)))
    return [*findings, *_of_cpu()]


def _of_cpu() -> Iterator[Finding]:
    """The CPU build of llama.cpp is compiled for AVX2; without it the child dies of SIGILL."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return
    if platform.machine() == "x86_64" and " avx2" not in flags:
        yield Finding(
            "error",
            "cpu",
            "this processor has no AVX2, which the CPU build of llama.cpp needs",
            "run the neuron on another machine; a cortex runs here",
        )


def of_refusal(error: ConfigRefused) -> list[Finding]:
    fix = "helexa config show --origin"
    return [Finding("error", "config", str(problem), fix) for problem in error.problems]


def of_machine(config: Config) -> list[Finding]:
    sources = str(config.file or "defaults, environment and flags")
    findings = [Finding("ok", "config", sources), *_of_home(config.node.home)]
    if any(one.level == "error" for one in findings):
        return findings  # Everything below lies in the home.
    return [
        *findings,
        *_of_secrets(config.node.home),
        *_of_sockets(config),
        *of_certificate(config),
        *of_mesh(config),
        *of_hardware(config),
        *of_models(config),
        *of_servers(config),
        *_of_disk(config),
        *_of_clock(),
        *_of_nodes(config.node.home),
    ]


def _of_home(home: Path) -> Iterator[Finding]:
    nearest = next(one for one in (home, *home.parents) if one.exists())
    if not nearest.is_dir():
        yield Finding("error", "home", f"{nearest} is no folder", "--home DIR")
    elif not os.access(nearest, os.W_OK | os.X_OK):
        fix = f"sudo chown -R $USER {nearest}, or --home DIR"
        yield Finding("error", "home", f"{nearest} cannot be written to", fix)
    else:
        new = "" if home.exists() else " (made at the first start)"
        yield Finding("ok", "home", f"{home}{new}")


def _of_secrets(home: Path) -> Iterator[Finding]:
    for name in SECRETS:
        path = home / name
        try:
            status = path.stat()
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            what = f"{path} can be read by others (mode {mode:04o})"
            yield Finding("error", "secrets", what, f"chmod 600 {path}")
        elif not os.access(path, os.R_OK):
            what = f"{path} belongs to another user"
            yield Finding("error", "secrets", what, f"sudo chown $USER {path}")


def _of_sockets(config: Config) -> Iterator[Finding]:
    """Sockets that a running node of this home holds are as they should be."""
    own = {
        facts["pid"]
        for role in ("cortex", "neuron")
        if (facts := running(config.node.home / role)) is not None
    }
    free = []
    for role in ("cortex", "neuron"):
        for found in config.values.values():
            if found.setting.section != role:
                continue
            for address in found.value if found.setting.is_list else (found.value,):
                if not isinstance(address, Address) or found.setting.key in _BETWEEN_NODES:
                    continue
                try:
                    listen_tcp(address).close()
                    free.append(str(address))
                except AddressTaken as error:
                    if not own & set(_holders(address)):
                        what = explain_taken(error, config, role)
                        yield Finding("error", "sockets", what)
    if free:
        yield Finding("ok", "sockets", f"free: {', '.join(free)}")


_BETWEEN_NODES: Final = frozenset({"cortex.mesh_socket", "neuron.control_socket"})
"""Ports of TCP and UDP at once; `mesh_checkup` tries both."""


def _holders(address: Address) -> Iterable[int]:
    try:
        found = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return ()
    return [one.pid for one in found if one.pid and one.laddr and one.laddr.port == address.port]


def _of_disk(config: Config) -> Iterator[Finding]:
    nearest = next(one for one in (config.node.home, *config.node.home.parents) if one.exists())
    disk = shutil.disk_usage(nearest)
    level = "ok" if disk.free >= DISK_FREE_MIN else "warning"
    yield Finding(level, "disk", f"{format_bytes(disk.free)} free at {nearest}")


def _of_clock() -> Iterator[Finding]:
    if time.time() < BUILT_AFTER_S:
        what = f"the clock says {time.strftime('%Y-%m-%d', time.gmtime())}"
        yield Finding("error", "clock", what, "timedatectl set-ntp true")


def _of_nodes(home: Path) -> Iterator[Finding]:
    for role, field in (("cortex", "gateway_url"), ("neuron", "api_url")):
        try:
            facts = running(home / role)
        except Failed as error:
            yield Finding("warning", role, str(error))
            continue
        if facts is None:
            yield Finding("ok", role, "does not run here now")
            continue
        url = facts.get(field)
        try:
            if url:
                certificate = facts.get("gateway_certificate")
                Client(url, "", Path(certificate) if certificate else None).probe("/healthz")
            where = f" at {url}" if url else ""
            yield Finding("ok", role, f"runs{where} (pid {facts['pid']})")
        except Unreachable as error:
            what = f"runs (pid {facts['pid']}), but {error}"
            yield Finding("error", role, what, f"kill {facts['pid']} and start it again")
