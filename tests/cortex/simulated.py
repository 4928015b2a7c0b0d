"""Simulated fleets for tests, in few words."""

from __future__ import annotations

from typing import Final

from helexa.protocol.ids import ModelId, NodeId
from helexa.testing.provisioning.neurons import Weights

GIB: Final = 1 << 30


def node(number: int) -> NodeId:
    return NodeId(f"{number:064x}")


def weights(model: str, *, gib: float = 1, load_s: float = 2.0, slots: int = 2) -> Weights:
    return Weights(model=ModelId(model), need_bytes=int(gib * GIB), load_s=load_s, slots=slots)
