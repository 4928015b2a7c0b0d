"""What `helexa doctor` looks at between nodes: transports, their ports, certificates, members."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any, Final

from helexa.cli.client import client_of, running
from helexa.cli.finding import Finding
from helexa.cli.local_nodes import KEY_FILE, LocalNode, local_nodes
from helexa.cli.nodes import explain_taken
from helexa.cli.operator_tables import SOON_S
from helexa.cli.output import day
from helexa.cli.verb import Failed
from helexa.config import Config, ConfigRefused, Layer
from helexa.config.federation import BY_HAND, FederationStore
from helexa.mesh import transports
from helexa.mesh.files.key_file import KeyUnusable
from helexa.mesh.identity import NodeKey
from helexa.mesh.operators.credentials import load_credentials
from helexa.util.home import HomeUnusable
from helexa.util.sockets import Address, AddressTaken, listen_tcp
from helexa.util.units import format_seconds

CLOCK_OFF_MAX_S: Final = 60.0
"""Half of what others forgive before they refuse this node's word."""
_OVER_TCP: Final = frozenset({"tls"})
_SOCKETS: Final = {
    "cortex": ("cortex.mesh_socket", "mesh.transports"),
    "neuron": ("neuron.control_socket", "neuron.transports"),
}


def of_mesh(config: Config) -> list[Finding]:
    return [
        *_of_transports(config),
        *_of_ports(config),
        *_of_certificates(config),
        *_of_policy(config),
        *_of_members(config),
    ]


def _of_transports(config: Config) -> Iterator[Finding]:
    words = dict.fromkeys(word for _, key in _SOCKETS.values() for word in config.values[key].value)
    usable = []
    problems = []
    for word in words:
        try:
            transports.load(word)
            usable.append(word)
        except transports.TransportUnusable as error:
            problems.append((word, str(error)))
    for word, problem in problems:
        chosen = any(
            word in config.values[key].value and config.origin(key).layer is not Layer.DEFAULT
            for _, key in _SOCKETS.values()
        )
        level = "error" if chosen or not usable else "warning"
        yield Finding(level, "transports", problem, "leave it out of mesh.transports")
    if usable:
        yield Finding("ok", "transports", ", ".join(usable))


def _of_ports(config: Config) -> Iterator[Finding]:
    """A node that runs holds its own; port 0 always finds one."""
    for role, (key, words) in _SOCKETS.items():
        address: Address = config.values[key].value
        if not address.port or running(config.node.home / role) is not None:
            continue
        kinds = config.values[words].value
        tries = [("TCP", _try_tcp)] if _OVER_TCP & set(kinds) else []
        tries += [("UDP", _try_udp)] if set(kinds) - _OVER_TCP else []
        free = []
        for protocol, attempt in tries:
            try:
                attempt(address)
                free.append(protocol)
            except AddressTaken as error:
                what = f"{protocol}: {explain_taken(error, config, role)}"
                yield Finding("error", "mesh port", what)
        if free:
            yield Finding("ok", "mesh port", f"{address} is free ({' and '.join(free)})")


def _try_tcp(address: Address) -> None:
    listen_tcp(address).close()


def _try_udp(address: Address) -> None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            reason = error.strerror or error
            raise AddressTaken(f"cannot listen on {address}: {reason}") from error


def _of_certificates(config: Config) -> Iterator[Finding]:
    for word, local in local_nodes(config).items():
        if local.exists:
            yield from _of_certificate(word, local)


def _of_certificate(word: str, local: LocalNode) -> Iterator[Finding]:
    now_s = time.time()
    try:
        key = NodeKey.load_or_create(local.home / KEY_FILE)
        certificate = load_credentials(local.home, key, now_s, role=local.role).certificate
    except KeyUnusable:
        return  # Found among the secrets, with its remedy.
    except HomeUnusable as error:
        yield Finding("error", "certificate", str(error))
        return
    if certificate is None:
        return
    whose = certificate.name or certificate.operator[:12]
    what = f"the {word} is {whose}'s until {day(certificate.expires_s)} UTC"
    if certificate.expires_s - now_s < SOON_S:
        fix = f"helexa operator sign {key.node_id}, where the operator's key is"
        yield Finding("warning", "certificate", f"{what}, which is soon", fix)
    else:
        yield Finding("ok", "certificate", what)


def _of_policy(config: Config) -> Iterator[Finding]:
    try:
        shown = FederationStore.of(config).shown()
    except ConfigRefused as error:
        for problem in error.problems:
            yield Finding("error", "policy", str(problem))
        return
    if changed := [name for name, one in shown.items() if one["origin"] == BY_HAND]:
        yield Finding("ok", "policy", f"changed by `{BY_HAND}`: {', '.join(changed)}")


def _of_members(config: Config) -> Iterator[Finding]:
    """What the running cortex of this home says of its mesh; nothing where none runs."""
    try:
        facts = running(config.cortex.home)
        if facts is None or not facts.get("orchestrator_url"):
            return
        found = client_of("cortex", config.node.home, None, None).get("/api/v1/mesh")
    except Failed as error:
        yield Finding("warning", "mesh", str(error))
        return
    yield from of_status(found)


def of_status(found: dict[str, Any]) -> Iterator[Finding]:
    """What an operator should know of `GET /api/v1/mesh`."""
    members = found.get("members") or {}
    alive = members.get("alive", 0)
    gone = ", ".join(f"{count} {state}" for state, count in members.items() if state != "alive")
    if not found.get("joined", True):
        yield Finding("warning", "mesh", "this cortex left the mesh", "helexa mesh join TICKET")
    else:
        yield Finding("ok", "mesh", f"{alive} peers alive" + (f", {gone}" if gone else ""))
    if found.get("pending"):
        what = f"{found['pending']} wait to be let in"
        yield Finding("warning", "mesh", what, "helexa mesh pending")
    if found.get("denied"):
        yield Finding("ok", "mesh", f"{found['denied']} operators or nodes are denied")
    off_s = float(found.get("clock_off_s") or 0)
    if abs(off_s) > CLOCK_OFF_MAX_S:
        way = "ahead of" if off_s > 0 else "behind"
        what = f"{format_seconds(abs(off_s))} {way} most other cortexes, which refuse its word"
        yield Finding("error", "clock", what, "timedatectl set-ntp true")
