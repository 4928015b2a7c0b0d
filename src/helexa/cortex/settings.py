"""A cortex's settings: types, defaults and the reason for each bound. No reading of files here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from helexa.util.sockets import Address


class CortexSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Resolved: addresses parsed, folders absolute. A role is on when its socket is given."""

    home: Path
    """This role's own folder: node key, database, admin token, logs."""
    mesh_socket: Address = Address("0.0.0.0", 0)
    """Port 0 takes a free one at first start and the same one ever after."""
    orchestrator_socket: Address | None = None
    gateway_socket: Address | None = None
    portal_sockets: tuple[Address, ...] = ()
    name: str = ""
    region: str = ""
    policy: str = "least_loaded"
    body_bytes_max: Annotated[int, Meta(ge=1024)] = 32 * 1024 * 1024
    """A larger body is refused with 413 before it is read; pictures fit, films do not."""
    header_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 20)] = 64 * 1024
    header_timeout_s: Annotated[float, Meta(gt=0, le=600)] = 20.0
    """From the first byte of a request to the end of its headers."""
    body_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    write_stall_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    """A client that reads nothing for this long while bytes wait for it is dropped."""
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 8_192
    queue_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 1_024
    """Requests in flight per model; the next is refused with 429."""
    first_byte_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 300.0
    """From dispatch to the neuron's first answer byte, a cold load included."""
    keepalive_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    health_every_s: Annotated[float, Meta(ge=0.1, le=60)] = 1.0
    lost_after_s: Annotated[float, Meta(ge=0.5, le=600)] = 4.0
    """A neuron silent for this long gets no new requests: four missed reports."""
    shutdown_grace_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    relays: tuple[str, ...] = ()
