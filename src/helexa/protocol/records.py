"""What cortexes sign: certificates, revocations, invites, and the record each publishes of itself.

Shapes only. Each of them travels sealed (`mesh/statements/sealed.py`): the signature, then
the MessagePack of one of these. A reader skips fields that it does not know, so
what was signed is kept and passed on as the bytes that came, never encoded anew.

Times are whole seconds since 1970 in UTC, by the signer's clock.
"""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.work import Modality, Price, WorkloadClass

OFFERS_PER_RECORD_MAX: Final = 256
RECORD_BYTES_MAX: Final = 32 * 1024
"""Sealed. A usual record is under one kilobyte; an offer takes about a hundred bytes."""


class Certificate(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="certificate", tag_field="t"
):
    """An operator's word that a node is its own. Sealed with the operator's key."""

    operator: OperatorId
    node: NodeId
    roles: tuple[str, ...]
    """`cortex`, `neuron`: what the node may be in the operator's name."""
    serial: str
    issued_s: int
    expires_s: int
    region: str = ""
    contact: str = ""
    name: str = ""
    """How the operator calls itself to people."""
    succeeds: tuple[bytes, ...] = ()
    """Sealed `Succession`s, oldest first, that lead from an earlier operator key to this one."""


class Succession(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="succession", tag_field="t"
):
    """An operator's word that it signs with another key from now on. Sealed with the old key."""

    old: OperatorId
    new: OperatorId
    issued_s: int


class Revocations(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="revocations", tag_field="t"
):
    """Every node that an operator no longer vouches for; a higher `version` replaces a lower."""

    operator: OperatorId
    version: int
    issued_s: int
    nodes: tuple[NodeId, ...] = ()


class Invite(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="invite", tag_field="t"
):
    """A cortex's promise to admit whoever shows this, `uses` times until `expires_s`."""

    issuer: NodeId
    serial: str
    expires_s: int
    uses: int = 1
    role: str = ""
    """`cortex` or `neuron`; empty admits either."""
    trust: str = "known"
    """The level that a guest gets: `known` or `trusted`."""


class Offer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model that a cortex would serve for other operators, all its neurons together."""

    model: ModelId
    digest: str = ""
    """`sha256:...` of the weights; empty where its neurons differ or have not computed it."""
    classes: tuple[WorkloadClass, ...] = ()
    modalities: tuple[Modality, ...] = (Modality.TEXT,)
    context_tokens: int = 0
    slots: int = 0
    free: int = 0
    """Slots that nobody used when this was said; a hint, never a promise."""
    ready: bool = False
    """Loaded somewhere; otherwise the first request waits for a load."""
    tokens_per_s: float = 0.0
    tools: bool = False
    structured_output: bool = False
    reasoning: bool = False
    price: Price = Price()
    abilities: tuple[str, ...] = ()
    """Of all its neurons; left out of records, where every byte goes to everybody."""
    quantisation: str = ""
    """Empty where its neurons differ, or do not say."""
    first_token_s: float = 0.0
    """Measured on a neuron with nothing else to do; 0 when never measured."""


class Record(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="record", tag_field="t"
):
    """What one cortex says of itself to the whole mesh. Sealed with its node key.

    `sequence` rises with every record of the same node, over restarts too: the
    higher one holds. A record says nothing about anybody but its signer.
    """

    node: NodeId
    sequence: int
    issued_s: int
    expires_s: int
    instance: str = ""
    """Random, new at every start: two of them at once are two machines with one key."""
    roles: tuple[str, ...] = ()
    """Of `orchestrator`, `gateway`, `portal`; mesh member it is anyway."""
    name: str = ""
    region: str = ""
    agent: str = ""
    lowest: int = 1
    highest: int = 1
    """The protocol versions that it speaks."""
    addresses: dict[str, tuple[str, ...]] = {}
    """By transport, best first: what its ticket says."""
    offers: tuple[Offer, ...] = ()
    load: float = 0.0
    """0..1: how much of its slots was in use, coarsely."""
    certificate: bytes = b""
    """Sealed `Certificate`; without one the node is its own operator."""
    revocations: bytes = b""
    """Sealed `Revocations` of its operator, the newest that it knows."""
