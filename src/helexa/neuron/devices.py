"""Which devices a replica is lent, as arithmetic on the bytes of each.

A device belongs to one replica. Only where the operator says that several may share
one, bytes are counted; what a replica may take is then taken off from the moment that
it is lent, because one that still loads has not taken it yet. What the driver says is
free bounds both: others on the machine have their part.

A device that computes in main memory is nobody's: what it holds is counted there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from helexa.protocol.errors import DoesNotFit
from helexa.protocol.ids import ModelId
from helexa.protocol.work import OWN_MEMORY, Device
from helexa.runtime.contract import DeviceWish, Placement
from helexa.util.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Of one device."""

    device: str
    lent: int
    """All of it where it is not shared."""
    used: int
    """As was estimated: so much is free again when the replica is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    shares: tuple[Share, ...] = ()
    shared: bool = False

    @property
    def bytes(self) -> int:
        return sum(share.lent for share in self.shares)

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(share.device for share in self.shares)


NONE: Final = Lease()
"""The processor alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """`bytes` are those that lie on all its devices together."""

    model: ModelId
    bytes: int
    wish: DeviceWish | None
    placement: Placement
    runtime: str = ""


def key(device: Device) -> str:
    """What it is known by: numbers change when a device is taken out, UUIDs do not."""
    return device.uuid or f"{device.vendor}:{device.index}"


def lendable(devices: Iterable[Device]) -> tuple[Device, ...]:
    return tuple(one for one in devices if one.memory == OWN_MEMORY)


def free(device: Device, leases: Iterable[Lease], *, shared: bool) -> int:
    """Bytes that may be lent of it, to somebody who would share it or not."""
    name = key(device)
    held = [lease for lease in leases if name in lease.devices]
    if held and not (shared and all(lease.shared for lease in held)):
        return 0
    lent = sum(share.lent for lease in held for share in lease.shares if share.device == name)
    return max(0, min(device.memory_bytes - lent, device.memory_free_bytes))


def returned(devices: Iterable[Device], gone: Iterable[Lease]) -> tuple[Device, ...]:
    """As they will be once the replicas with these leases are gone."""
    back: dict[str, int] = {}
    for lease in gone:
        for share in lease.shares:
            back[share.device] = back.get(share.device, 0) + share.used
    return tuple(
        msgspec.structs.replace(
            one,
            memory_free_bytes=min(one.memory_bytes, one.memory_free_bytes + back.get(key(one), 0)),
        )
        for one in devices
    )


def lend(want: Want, devices: Iterable[Device], leases: Mapping[ModelId, Lease]) -> Lease:
    """What it gets. Raises DoesNotFit."""
    wish, placement = want.wish, want.placement
    there = lendable(devices)
    usable = choose(want, there)
    if wish is None or not usable:
        return NONE
    least, most = wish.least, wish.most
    if placement.count or placement.devices:
        least = most = placement.count or len(_named(want.model, placement.devices or (), there))
    room = {key(one): free(one, leases.values(), shared=placement.shared) for one in usable}
    for count in range(least, min(most, len(usable)) + 1):
        each = -(-want.bytes // count) + wish.bytes_each
        # The tightest that will do, so that a larger model finds a larger device.
        fitting = sorted(
            (one for one in usable if room[key(one)] >= max(1, each)),
            key=lambda one: (room[key(one)], one.index),
        )
        if len(fitting) >= count:
            return _lease(fitting[:count], each, shared=placement.shared)
    if placement.or_cpu and not wish.needed:
        return NONE
    raise DoesNotFit(
        model=want.model,
        needed_bytes=want.bytes + least * wish.bytes_each,
        free_bytes=sum(sorted(room.values(), reverse=True)[:most]),
        detail=_held(usable, leases, least, most),
    )


def choose(want: Want, there: Sequence[Device]) -> Sequence[Device]:
    """Those that it may be lent, however full they are; none for the processor alone.

    Raises DoesNotFit where it can run neither on these nor without any, however long it waits.
    """
    wish, names = want.wish, want.placement.devices
    if names is not None:
        there = _named(want.model, names, there)
    usable = () if wish is None else [one for one in there if one.vendor in wish.vendors]
    if wish is not None and wish.needed and not usable:
        makers = " or ".join(wish.vendors)
        lacks = "its devices are set to none" if names == () else "this neuron has none"
        reason = f"the runtime {want.runtime} needs a device of {makers}, and {lacks}"
        raise _never(want.model, reason)
    return usable


def holders(device: Device, leases: Mapping[ModelId, Lease]) -> tuple[ModelId, ...]:
    return tuple(sorted(model for model, one in leases.items() if key(device) in one.devices))


def lent(devices: Iterable[Device], lease: Lease) -> tuple[Device, ...]:
    """The devices of a lease, in its order, and those that are nobody's."""
    by_key = {key(one): one for one in devices}
    own = tuple(by_key[name] for name in lease.devices if name in by_key)
    return own + tuple(one for one in by_key.values() if one.memory != OWN_MEMORY)


def _lease(devices: Sequence[Device], each: int, *, shared: bool) -> Lease:
    shares = (
        Share(device=key(one), lent=each if shared else one.memory_bytes, used=each)
        for one in sorted(devices, key=lambda one: one.index)
    )
    return Lease(shares=tuple(shares), shared=shared)


def _never(model: ModelId, reason: str) -> DoesNotFit:
    return DoesNotFit(model=model, needed_bytes=0, free_bytes=0, reason=reason)


def _named(model: ModelId, names: Collection[str], devices: Sequence[Device]) -> tuple[Device, ...]:
    found = []
    for name in names:
        # A divided device has one number for all its parts.
        hits = [one for one in devices if name in (one.uuid, str(one.index))]
        if len(hits) != 1:
            if not devices:
                raise _never(
                    model, f"it is set to the device {name!r}, and this neuron has no device"
                )
            here = ", ".join(f"{one.index} ({one.uuid or one.name})" for one in devices)
            what = f"is {len(hits)} parts" if hits else "is not on this neuron"
            raise _never(
                model, f"it is set to the device {name!r}, which {what}; there are: {here}"
            )
        found.append(hits[0])
    return tuple(dict.fromkeys(found))


def _held(usable: Sequence[Device], leases: Mapping[ModelId, Lease], least: int, most: int) -> str:
    count = f"{least}" if least == most else f"{least} to {most}"
    each = "; ".join(
        f"device {one.index} has {format_bytes(one.memory_free_bytes)} free"
        + (f" and is held by {', '.join(map(repr, by))}" if (by := holders(one, leases)) else "")
        for one in usable
    )
    return f"on {count} of {len(usable)} devices; {each}"
