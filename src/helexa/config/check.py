"""What single values cannot show: settings that contradict one another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from helexa.config.origin import Problem
from helexa.util.sockets import Address

if TYPE_CHECKING:
    from helexa.config.load import Value

# By transport, because TCP and UDP ports are different ports. `up` replaces the roles' own
# client sockets with its own.
_TCP: Final[Mapping[str, tuple[str, ...]]] = {
    "cortex": ("cortex.orchestrator_socket", "cortex.gateway_socket", "cortex.portal_sockets"),
    "neuron": ("neuron.api_socket",),
    "up": ("up.gateway_socket", "up.portal_socket", "up.orchestrator_socket", "up.api_socket"),
}
_UDP: Final[Mapping[str, tuple[str, ...]]] = {
    "cortex": ("cortex.mesh_socket",),
    "neuron": ("neuron.control_socket",),
    "up": ("cortex.mesh_socket", "neuron.control_socket"),
}
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})


def conflicts(values: Mapping[str, Value], roles: Collection[str]) -> Iterator[Problem]:
    """Contradictions among the settings of `roles`; those of other roles do no harm here."""
    for sockets in (_TCP, _UDP):
        yield from _shared_sockets(values, [key for role in roles for key in sockets[role]])
    if "cortex" in roles or "up" in roles:
        yield from _impatience(values)


def _shared_sockets(values: Mapping[str, Value], keys: list[str]) -> Iterator[Problem]:
    seen: list[tuple[Address, str]] = []
    for key in keys:
        found = values[key]
        addresses = found.value if found.setting.is_list else (found.value,)
        for address in addresses:
            if address is None or address.port == 0:
                continue
            other = next((other for one, other in seen if overlap(one, address)), None)
            if other is not None:
                where = values[other].origin
                message = f"{address} is already taken by {other} ({where}); give each its own port"
                yield Problem(found.origin, key, message)
            seen.append((address, key))


def overlap(one: Address, other: Address) -> bool:
    """Whether both cannot be listened on at once: a wildcard covers every host."""
    if one.port != other.port:
        return False
    hosts = {one.host, other.host}
    return len(hosts) == 1 or bool(hosts & _WILDCARDS)


def _impatience(values: Mapping[str, Value]) -> Iterator[Problem]:
    every, lost = values["cortex.health_every_s"], values["cortex.lost_after_s"]
    if lost.value <= every.value:
        later = lost if lost.origin.layer.value != "default" else every
        message = (
            f"lost_after_s ({lost.value:g}) must be above health_every_s ({every.value:g}), "
            "or every neuron is lost between two reports"
        )
        yield Problem(later.origin, later.setting.key, message)
