"""Who simulated nodes are: ids, operators, records of a usual size, and cheap signatures.

A signature here is a hash that anybody could make and nobody does: thousands of
nodes in one process check each record once for all of them. What real keys add
is tested with real keys, and costs 0.3 ms a check.
"""

from __future__ import annotations

import hashlib
import random
from typing import Final

from helexa.mesh.membership.notary import Entry, KeyNotary
from helexa.mesh.operators.revocation import RevocationBook
from helexa.mesh.statements.records import check_times, peek
from helexa.mesh.statements.sealed import Sign, seal
from helexa.protocol.gossip import Answer, Statement
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.records import Certificate, Offer, Record
from helexa.protocol.work import Price, WorkloadClass

BEGIN_UNIX_S: Final = 1_800_000_000.0


def toy_sign(node: str) -> Sign:
    key = bytes.fromhex(node)
    return lambda message: hashlib.blake2b(message, key=key, digest_size=64).digest()


def toy_verify(node: NodeId, message: bytes, signature: bytes) -> bool:
    return toy_sign(node)(message) == signature


def new_id(randomness: random.Random) -> NodeId:
    return NodeId(randomness.randbytes(32).hex())


class Register:
    """What was checked once in this world, for all."""

    def __init__(self) -> None:
        self.book = RevocationBook(verify=toy_verify)
        self._entries: dict[bytes, Entry] = {}

    def entry(self, blob: bytes, notary: KeyNotary, unix_s: float) -> Entry:
        entry = self._entries.get(blob)
        if entry is None:
            entry = self._entries[blob] = notary.open(blob, unix_s)
        else:
            check_times(entry.signed.record, unix_s)
        return entry

    def keep(self, entry: Entry) -> Entry:
        return self._entries.setdefault(entry.signed.blob, entry)

    def entry_of(self, blob: bytes) -> Entry:
        """Of a record that somebody in this world took in. KeyError for others."""
        return self._entries[blob]

    def peek(self, blob: bytes) -> tuple[NodeId, int]:
        entry = self._entries.get(blob)
        return (entry.node, entry.sequence) if entry is not None else peek(blob)


class SharedNotary:
    """A `Notary` that signs for one node and looks up what others of its world have checked."""

    def __init__(self, node: NodeId, register: Register) -> None:
        self._own = KeyNotary(toy_sign(node), register.book, toy_verify)
        self._register = register

    def seal(self, statement: Statement | Answer) -> bytes:
        return self._own.seal(statement)

    def prove(self, blob: bytes, statement: Statement) -> None:
        self._own.prove(blob, statement)

    def unseal_answer(self, blob: bytes) -> Answer:
        return self._own.unseal_answer(blob)

    def sign(self, record: Record) -> Entry:
        return self._register.keep(self._own.sign(record))

    def peek(self, blob: bytes) -> tuple[NodeId, int]:
        return self._register.peek(blob)

    def open(self, blob: bytes, unix_s: float) -> Entry:
        return self._register.entry(blob, self._own, unix_s)


def usual_draft(
    node: NodeId, operator: OperatorId, instance: str, randomness: random.Random
) -> Record:
    """A record of the usual size: a certificate, two transports, two offers; about 900 bytes."""
    certificate = Certificate(
        operator=operator,
        node=node,
        roles=("cortex",),
        serial=randomness.randbytes(8).hex(),
        issued_s=int(BEGIN_UNIX_S) - 86_400,
        expires_s=int(BEGIN_UNIX_S) + 365 * 86_400,
        region="eu-west",
        contact="ops@example.org",
        name="Example",
    )
    return Record(
        node=node,
        sequence=0,
        issued_s=0,
        expires_s=0,
        instance=instance,
        roles=("orchestrator", "gateway"),
        name=f"cortex-{node[:6]}",
        region="eu-west",
        agent="helexa 1.0.0",
        addresses={
            "tls": (_address(randomness),),
            "iroh": (_address(randomness), _address(randomness)),
        },
        offers=tuple(_offer(name, randomness) for name in ("example/chat-8b", "example/embed")),
        load=round(randomness.random(), 1),
        certificate=seal(toy_sign(operator), certificate),
    )


def _address(randomness: random.Random) -> str:
    return f"203.0.113.{randomness.randrange(1, 255)}:{randomness.randrange(1_024, 65_536)}"


def _offer(model: str, randomness: random.Random) -> Offer:
    return Offer(
        model=ModelId(model),
        digest="sha256:" + randomness.randbytes(32).hex(),
        classes=(WorkloadClass.CHAT_INTERACTIVE,),
        context_tokens=8_192,
        slots=8,
        free=randomness.randrange(9),
        ready=True,
        tokens_per_s=40.0,
        tools=True,
        price=Price(prompt_uncached=100, completion=300),
    )
