"""Where on the machine a model may run, as the operator's settings say."""

from __future__ import annotations

from collections.abc import Sequence

from helexa.neuron import cores
from helexa.neuron.cores import Core
from helexa.neuron.settings import ModelSettings, NeuronSettings
from helexa.runtime.contract import Placement


class PlacementRefused(Exception):
    """The settings name CPUs that are not this neuron's."""


def placement(
    settings: ModelSettings, neuron: NeuronSettings, machine: Sequence[Core]
) -> Placement:
    """`machine` has the cores that this neuron may use, none where that is unknown.

    Raises PlacementRefused. Devices that are not there are found out where they are lent.
    """
    shared = settings.devices_shared
    return Placement(
        devices=settings.devices,
        count=settings.device_count or 0,
        shared=neuron.share_devices if shared is None else shared,
        or_cpu=bool(settings.or_cpu),
        cpus=_pinned(settings.cpus, machine),
    )


def _pinned(text: str, machine: Sequence[Core]) -> tuple[int, ...]:
    if not text:
        return ()
    try:
        asked = cores.parse(text)
    except ValueError as error:
        raise PlacementRefused(f"cpus: {error}") from error
    there = {cpu for core in machine for cpu in core.cpus}
    if there and not there.issuperset(asked):
        missing = cores.written(set(asked) - there)
        raise PlacementRefused(
            f"cpus = {text!r} names {missing}; this neuron may use {cores.written(there)}"
        )
    return asked
