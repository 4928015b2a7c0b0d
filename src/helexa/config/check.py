"""What single values cannot show: settings that contradict one another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from helexa.config.origin import Problem
from helexa.util.sockets import Address

if TYPE_CHECKING:
    from helexa.config.load import Value

# By protocol, because TCP and UDP ports are different ports. `up` replaces the roles' own
# client sockets with its own.
_CLIENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "cortex": ("cortex.orchestrator_socket", "cortex.gateway_socket", "cortex.portal_sockets"),
    "neuron": ("neuron.api_socket",),
    "up": ("up.gateway_socket", "up.portal_socket", "up.orchestrator_socket", "up.api_socket"),
}
_NODES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "cortex": (("cortex.mesh_socket", "mesh.transports"),),
    "neuron": (("neuron.control_socket", "neuron.transports"),),
    "up": (
        ("cortex.mesh_socket", "mesh.transports"),
        ("neuron.control_socket", "neuron.transports"),
    ),
}
_OVER_TCP: Final = "tls"
"""The one transport that takes a TCP port; all others take the UDP port of the same number."""
_LISTS: Final = ("mesh.allow", "mesh.trust")
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})


def conflicts(values: Mapping[str, Value], roles: Collection[str]) -> Iterator[Problem]:
    """Contradictions among the settings of `roles`; those of other roles do no harm here."""
    tcp = [key for role in roles for key in _CLIENTS[role]]
    udp = []
    for role in roles:
        for socket, transports in _NODES[role]:
            words = values[transports].value
            if _OVER_TCP in words:
                tcp.append(socket)
            if set(words) - {_OVER_TCP}:
                udp.append(socket)
            if not words:
                message = f"names no transport; accepted: {values[transports].setting.kind.words}"
                yield Problem(values[transports].origin, transports, message)
    yield from _shared_sockets(values, tcp)
    yield from _shared_sockets(values, udp)
    if "cortex" in roles or "up" in roles:
        yield from _impatience(values)
        yield from _no_room(values)
        yield from _both_ways(values)
        yield from _half_a_pair(values)


def _half_a_pair(values: Mapping[str, Value]) -> Iterator[Problem]:
    """One file alone would leave the gateway unencrypted, which nobody meant."""
    pair = values["cortex.gateway_tls_cert"], values["cortex.gateway_tls_key"]
    for given, other in (pair, pair[::-1]):
        if given.value is not None and other.value is None:
            key = given.setting.key
            yield Problem(given.origin, key, f"needs {other.setting.key} beside it")


def _both_ways(values: Mapping[str, Value]) -> Iterator[Problem]:
    """The denial would win, and somebody who counts on the other list would not know why."""
    denied = values["mesh.deny"]
    for key in _LISTS:
        for one in set(values[key].value) & set(denied.value):
            message = f"{one[:16]}... is in mesh.deny too ({denied.origin}); take it out of one"
            yield Problem(values[key].origin, key, message)


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


def _no_room(values: Mapping[str, Value]) -> Iterator[Problem]:
    one, all_of_them = values["cortex.body_bytes_max"], values["cortex.bodies_bytes_max"]
    if all_of_them.value < one.value:
        later = all_of_them if all_of_them.origin.layer.value != "default" else one
        message = (
            "bodies_bytes_max must not be below body_bytes_max, or there is never room for one"
        )
        yield Problem(later.origin, later.setting.key, message)


def _impatience(values: Mapping[str, Value]) -> Iterator[Problem]:
    every, lost = values["cortex.health_every_s"], values["cortex.lost_after_s"]
    if lost.value <= every.value:
        later = lost if lost.origin.layer.value != "default" else every
        message = (
            f"lost_after_s ({lost.value:g}) must be above health_every_s ({every.value:g}), "
            "or every neuron is lost between two reports"
        )
        yield Problem(later.origin, later.setting.key, message)
