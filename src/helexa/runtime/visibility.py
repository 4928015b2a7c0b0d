"""Variables that show a child the devices that it was lent, and no others.

Set for every child, also for one that was lent none: an engine that finds a device
takes it. Named by UUID where the driver has one, because numbers depend on the order
in which a library counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helexa.protocol.work import Device


def variables(devices: Sequence[Device]) -> Mapping[str, str]:
    nvidia = [one for one in devices if one.vendor == "nvidia"]
    amd = [one for one in devices if one.vendor == "amd"]
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        # HIP reads CUDA's variable, too, and counts among those that ROCr shows it.
        "CUDA_VISIBLE_DEVICES": _names(nvidia) or _counted(amd),
        "ROCR_VISIBLE_DEVICES": ",".join(str(one.index) for one in amd),
        "HIP_VISIBLE_DEVICES": _counted(amd),
    }


def _names(devices: Sequence[Device]) -> str:
    return ",".join(one.uuid or str(one.index) for one in devices)


def _counted(devices: Sequence[Device]) -> str:
    return ",".join(str(place) for place in range(len(devices)))
