"""Settings that belong to no single role: the node's own, and those of `helexa up`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from helexa.util.sockets import Address


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    home: Path
    log_level: str = "info"
    log_format: str = "human"


class UpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, one command: loopback unless the operator says otherwise."""

    gateway_socket: Address = Address("127.0.0.1", 8080)
    portal_socket: Address = Address("127.0.0.1", 8091)
    orchestrator_socket: Address = Address("127.0.0.1", 8040)
    api_socket: Address = Address("127.0.0.1", 0)
    models: tuple[str, ...] = ("helexa-demo",)
    ready_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 120.0
