"""What hardware was found, which runtime would compute where, and whether there is a sandbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from helexa.cli.finding import Finding
from helexa.config import Config
from helexa.neuron import hardware
from helexa.neuron.devices import lendable
from helexa.neuron.settings import RuntimeSettings
from helexa.neuron.supervisor import sandbox
from helexa.neuron.supervisor.recipe import SERVER_RUNTIME
from helexa.protocol.ids import ModelId
from helexa.protocol.work import UNIFIED_MEMORY, Device, Fingerprint
from helexa.runtime import adapters, installed
from helexa.runtime.contract import (
    AcceleratedAdapter,
    DeviceWish,
    Installation,
    ModelFiles,
    ReplicaSpec,
    RuntimeAdapter,
)
from helexa.util.units import format_bytes

_DRIVERS: Final[Mapping[str, tuple[str, str]]] = {
    "nvidia": ("proc/driver/nvidia", "pip install 'helexa[nvidia]', or install nvidia-smi"),
    "amd": ("sys/module/amdgpu", "ls /sys/class/drm/card*/device/mem_info_vram_total"),
}
"""Where the kernel says that a maker's driver is loaded; what helps where it shows no device."""


def of_hardware(config: Config, root: Path = hardware.SYSTEM_ROOT) -> list[Finding]:
    machine = hardware.fingerprint(root)
    return [
        Finding("ok", "cpu", _processor(machine)),
        *_of_devices(machine, root),
        *_of_runtimes(config, machine),
        *_of_sandbox(config),
    ]


def _processor(machine: Fingerprint) -> str:
    nodes = f", {machine.numa_nodes} nodes of memory" if machine.numa_nodes > 1 else ""
    features = f"; {' '.join(machine.cpu_features)}" if machine.cpu_features else ""
    return f"{machine.cpu_model or machine.machine}, {machine.cpus:g} CPUs{nodes}{features}"


def _of_devices(machine: Fingerprint, root: Path) -> Iterator[Finding]:
    for one in machine.devices:
        yield Finding("ok", "device", _device(one))
    for vendor, (sign, fix) in _DRIVERS.items():
        if (root / sign).exists() and not any(one.vendor == vendor for one in machine.devices):
            what = f"the driver of {vendor} is loaded, but no device of it was found"
            yield Finding("warning", "device", what, fix)
    if not machine.devices:
        yield Finding("ok", "device", "none; models run on the processor")


def _device(one: Device) -> str:
    memory = f"{format_bytes(one.memory_free_bytes)} free of {format_bytes(one.memory_bytes)}"
    if one.memory == UNIFIED_MEMORY:
        memory = "computes in main memory"
    about = (
        f"{one.vendor} {one.index}: {one.name}",
        memory,
        one.compute and f"compute {one.compute}",
        one.driver and f"driver {one.driver}",
        one.uuid,
    )
    return ", ".join(filter(None, about))


def _of_runtimes(config: Config, machine: Fingerprint) -> Iterator[Finding]:
    for name in adapters.in_order(config.neuron.runtime_order):
        adapter = adapters.load(name)
        if adapters.is_installed(adapter, config.neuron.runtimes):
            settings = config.neuron.runtimes.get(name, RuntimeSettings())
            yield _of_runtime(adapter, settings, machine)


def _of_runtime(
    adapter: RuntimeAdapter, settings: RuntimeSettings, machine: Fingerprint
) -> Finding:
    """With any model that this runtime is set to serve as it likes."""
    where = Installation(python=settings.python, program=settings.program)
    if (lack := installed.missing(adapter, where)) is not None:
        return Finding("error", "runtime", f"{adapter.name}: {lack.detail}")
    if adapter.name == SERVER_RUNTIME:
        return Finding("ok", "runtime", f"{adapter.name}: where each of [neuron.servers] is")
    if not isinstance(adapter, AcceleratedAdapter):
        what = f"{adapter.name}: on the processor, as far as this neuron decides"
        return Finding("ok", "runtime", what)
    spec = ReplicaSpec(
        files=ModelFiles(model=ModelId("any"), weights=Path("/any")),
        context_tokens=1024,
        slots=1,
        installation=where,
    )
    return _of_place(adapter.name, adapter.devices(spec), machine)


def _of_place(name: str, wish: DeviceWish | None, machine: Fingerprint) -> Finding:
    if wish is None:
        return Finding("ok", "runtime", f"{name}: on the processor; this build uses no device")
    fit = [one for one in machine.devices if one.vendor in wish.vendors]
    own = [str(one.index) for one in lendable(fit)]
    if own:
        count = f"{wish.least} of" if wish.least == wish.most else f"{wish.least} or more of"
        return Finding("ok", "runtime", f"{name}: on {count} the devices {', '.join(own)}")
    if fit:
        return Finding("ok", "runtime", f"{name}: on {fit[0].name}, in main memory")
    if wish.needed:
        what = f"{name}: nowhere here: this build needs a device of {' or '.join(wish.vendors)}"
        return Finding("warning", "runtime", what, f"set no model of this neuron to {name}")
    return Finding("ok", "runtime", f"{name}: on the processor; there is no device for it")


def _of_sandbox(config: Config) -> Iterator[Finding]:
    kind = config.neuron.sandbox
    try:
        sandbox.check(kind)
    except sandbox.SandboxUnusable as error:
        yield Finding("error", "sandbox", str(error), '[neuron] sandbox = "none"')
    else:
        yield Finding("ok", "sandbox", kind)
