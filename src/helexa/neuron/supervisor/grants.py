"""What each replica was promised, counted from before it starts until it is gone.

Main memory, devices and CPUs: a replica gets all that it needs of each, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio.to_thread
import msgspec

from helexa.neuron import budget, cores, devices
from helexa.neuron.cores import Core
from helexa.neuron.devices import Lease, Want
from helexa.neuron.supervisor.replica import Replica
from helexa.neuron.supervisor.room import Fits, Resident
from helexa.protocol.errors import DoesNotFit, NoCapacity
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Device, DeviceLoad
from helexa.runtime.contract import (
    AcceleratedAdapter,
    DeviceWish,
    Footprint,
    ReplicaSpec,
    RuntimeAdapter,
)

_NO_CPU_LEFT_S: Final = 30
_NOTHING: Final = Footprint(weights=0, kv_cache=0, overhead=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    memory: int
    """Of main memory."""
    lease: Lease = devices.NONE
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What may be granted besides main memory."""

    devices: tuple[Device, ...] = ()
    look: Callable[[], Sequence[Device]] = tuple
    """Asks the drivers anew, which may take a while; called off the event loop."""
    cores: tuple[Core, ...] = ()
    pins: bool = False
    """Every replica gets CPUs of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Free:
    """The machine as a decision sees it."""

    memory: budget.Memory
    devices: Sequence[Device]
    granted: Mapping[ModelId, Granted] = field(default_factory=dict)


class Grants:
    def __init__(self, memory: Callable[[], budget.Memory], machine: Machine | None = None) -> None:
        self.memory = memory
        self.machine = machine or Machine()
        self._devices = self.machine.devices
        self._granted: dict[ModelId, Granted] = {}

    @property
    def by_model(self) -> Mapping[ModelId, int]:
        """Bytes of main memory."""
        return {model: one.memory for model, one in self._granted.items()}

    def has(self, model: ModelId) -> bool:
        return model in self._granted

    def of(self, model: ModelId) -> Granted:
        return self._granted.get(model, Granted(memory=0))

    def holds(self, model: ModelId) -> int:
        """Bytes of any memory."""
        one = self.of(model)
        return one.memory + one.lease.bytes

    def lent(self, spec: ReplicaSpec) -> tuple[Device, ...]:
        """The devices that a replica may see."""
        if spec.placement.devices == ():
            return ()
        return devices.lent(self._devices, self.of(spec.files.model).lease)

    def would_hold(self, adapter: RuntimeAdapter, spec: ReplicaSpec) -> int:
        """Bytes of any memory that others could not have, were it alone on this machine."""
        need = adapter.footprint(spec)
        if not self.would_lend(adapter, spec):
            return need.total
        whole = (
            msgspec.structs.replace(one, memory_free_bytes=one.memory_bytes)
            for one in self._devices
        )
        try:
            lease = devices.lend(self._want(adapter, spec, need), whole, {})
        except (DoesNotFit, NoCapacity):
            return need.total
        if not lease.shares:
            return need.total
        return max(0, need.total - need.on_devices - need.cpu_only) + lease.bytes

    async def look(self) -> None:
        """Ask the drivers what is free now. What is not asked for is not known to change."""
        if self._devices:
            found = await anyio.to_thread.run_sync(self.machine.look)
            # One that does not answer now is there all the same: it was lent, perhaps.
            by_key = {devices.key(one): one for one in found}
            self._devices = tuple(by_key.get(devices.key(one), one) for one in self._devices)

    def give(self, replica: Replica) -> None:
        """Raises DoesNotFit, NoCapacity. One that has a grant keeps it."""
        model = replica.spec.files.model
        if model not in self._granted:
            self._granted[model] = self._admit(replica.adapter, replica.spec, self._now())

    def check(self, adapter: RuntimeAdapter, spec: ReplicaSpec, gone: Resident) -> None:
        """Whether it would fit once the replica that it has now is gone. Raises as `give`."""
        self._admit(adapter, spec, self._without((gone,)))

    def fits(self, replica: Replica) -> Fits:
        """Whether it would fit without these."""

        def fits(gone: Sequence[Resident]) -> bool:
            try:
                self._admit(replica.adapter, replica.spec, self._without(gone))
            except (DoesNotFit, NoCapacity):
                return False
            return True

        return fits

    def settle(self, replica: Replica) -> None:
        """Take it back where nothing came of it."""
        if not replica.state.holds_memory and not replica.is_asked:
            self._granted.pop(replica.spec.files.model, None)

    def loads(self) -> tuple[DeviceLoad, ...]:
        leases = self._leases(self._granted)
        return tuple(
            DeviceLoad(
                index=one.index,
                vendor=one.vendor,
                uuid=one.uuid,
                free_bytes=devices.free(one, leases.values(), shared=True),
                models=devices.holders(one, leases),
            )
            for one in devices.lendable(self._devices)
        )

    def never(self, adapter: RuntimeAdapter, spec: ReplicaSpec) -> str:
        """Why no device here will ever do for it; empty where room alone decides."""
        try:
            devices.choose(self._want(adapter, spec, _NOTHING), devices.lendable(self._devices))
        except DoesNotFit as error:
            return error.reason
        return ""

    def would_lend(self, adapter: RuntimeAdapter, spec: ReplicaSpec) -> bool:
        """Whether this one runs on devices of this machine, if there is room."""
        wish = self._wish(adapter, spec)
        if wish is None or spec.placement.devices == ():
            return False
        return any(one.vendor in wish.vendors for one in devices.lendable(self._devices))

    # ---

    def _now(self) -> _Free:
        return _Free(memory=self.memory(), devices=self._devices, granted=self._granted)

    def _without(self, gone: Sequence[Resident]) -> _Free:
        names = {one.model for one in gone}
        return _Free(
            memory=budget.returned(self.memory(), sum(one.holds for one in gone)),
            devices=devices.returned(self._devices, (self.of(name).lease for name in names)),
            granted={model: one for model, one in self._granted.items() if model not in names},
        )

    def _admit(self, adapter: RuntimeAdapter, spec: ReplicaSpec, there: _Free) -> Granted:
        need, model = adapter.footprint(spec), spec.files.model
        want = self._want(adapter, spec, need)
        lease = devices.lend(want, there.devices, self._leases(there.granted))
        beside = need.on_devices + need.cpu_only if lease.shares else 0
        held = {other: one.memory for other, one in there.granted.items()}
        return Granted(
            memory=budget.admit(model, need, there.memory, held, elsewhere=beside),
            lease=lease,
            cpus=self._pinned(spec, there.granted),
        )

    def _pinned(self, spec: ReplicaSpec, granted: Mapping[ModelId, Granted]) -> tuple[int, ...]:
        if spec.placement.cpus or not self.machine.pins:
            return spec.placement.cpus
        taken = {cpu for one in granted.values() for cpu in one.cpus}
        count = int(spec.arguments.get("threads", 0)) or -(-len(self.machine.cores) // 2)
        found = cores.pick(count, self.machine.cores, taken)
        if not found and self.machine.cores:
            raise NoCapacity(
                reason=f"{spec.files.model!r} finds no CPU: all are pinned to "
                f"{', '.join(map(repr, sorted(granted)))}; fewer threads for each leave some.",
                wait_s=_NO_CPU_LEFT_S,
            )
        return found

    def _want(self, adapter: RuntimeAdapter, spec: ReplicaSpec, need: Footprint) -> Want:
        return Want(
            model=spec.files.model,
            bytes=need.on_devices,
            wish=self._wish(adapter, spec),
            placement=spec.placement,
            runtime=adapter.name,
        )

    def _wish(self, adapter: RuntimeAdapter, spec: ReplicaSpec) -> DeviceWish | None:
        return adapter.devices(spec) if isinstance(adapter, AcceleratedAdapter) else None

    @staticmethod
    def _leases(granted: Mapping[ModelId, Granted]) -> Mapping[ModelId, Lease]:
        return {model: one.lease for model, one in granted.items()}
