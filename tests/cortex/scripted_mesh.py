"""A mesh as an operator sees it, without one: says what it was told to and notes what is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from helexa.cortex.orchestrator.live_policy import FixedPolicy, LivePolicy
from helexa.cortex.orchestrator.mesh_control import (
    Decision,
    InviteWish,
    MeshStatus,
    OnStep,
    PeerRow,
    PendingRow,
    Ping,
)
from helexa.cortex.settings import FederationSettings
from helexa.protocol.errors import HelexaError, PeerLost, RequestRejected
from helexa.protocol.ids import NodeId, OperatorId

ME, BEN, CAS, NEW = (NodeId(f"{digit}0" * 32) for digit in "1bcd")
OF_BEN = OperatorId("b5" * 32)

STEPS: Sequence[dict[str, Any]] = (
    {"name": "read the ticket", "outcome": "ok", "took_s": 0.001, "detail": "", "advice": ""},
    {
        "name": "reach it by tls",
        "outcome": "failed",
        "took_s": 3.0,
        "detail": "no answer from 192.0.2.7:9050",
        "advice": "open TCP port 9050 in the firewall",
    },
)


class ScriptedMesh:
    """Implements `helexa.cortex.orchestrator.mesh_control.MeshControl`."""

    def __init__(self, policy: LivePolicy | None = None) -> None:
        self.live = policy or FixedPolicy(FederationSettings())
        self.asked: list[tuple[Any, ...]] = []
        self.steps: Sequence[dict[str, Any]] = STEPS
        self.joined = False
        self.join_refusal: HelexaError | None = None
        self.peer_rows: list[PeerRow] = [
            PeerRow(
                node=BEN,
                operator=OF_BEN,
                name="ben",
                operator_name="ben",
                region="eu-west",
                trust="trusted",
                since_s=75,
                neighbour=True,
                link="tls",
                rtt_ms=1.25,
                offers=("ben-chat", "ben-embed"),
                address="192.0.2.7:9050",
            ),
            PeerRow(node=CAS, operator=OperatorId(CAS), name="cas", state="dead", since_s=3),
        ]
        self.pending_rows: list[PendingRow] = [
            PendingRow(
                node=NEW,
                operator=OperatorId(NEW),
                role="cortex",
                name="new",
                address="192.0.2.9:9050",
                since_s=90,
                seen_s=2,
            )
        ]

    def status(self) -> MeshStatus:
        return MeshStatus(
            node=ME,
            operator=OperatorId(ME),
            ticket="helexaticket",
            addresses={"tls": ("127.0.0.1:9050",)},
            preset="wan",
            admission="open",
            neurons="lan",
            members={"alive": 1, "dead": 1},
            neighbours=1,
            pending=len(self.pending_rows),
            rejected={"signature": 3},
            traffic={"sent_bytes": 2048.0, "sent_bytes_per_s": 10.0},
        )

    def peers(self) -> Sequence[PeerRow]:
        return self.peer_rows

    async def join(self, ticket: str, on_step: OnStep) -> Mapping[str, Any]:
        self.asked.append(("join", ticket))
        if not ticket.startswith("helexa"):
            raise RequestRejected("That is no ticket.", "ticket")
        for step in self.steps:
            on_step(step)
        if self.join_refusal is not None:
            raise self.join_refusal
        return {"joined": self.joined, "steps": self.steps}

    async def leave(self) -> None:
        self.asked.append(("leave",))

    def ticket(self, invite: InviteWish | None) -> str:
        self.asked.append(("ticket", invite))
        return "helexaguest" if invite else "helexaticket"

    async def ping(self, node: NodeId) -> Ping:
        self.asked.append(("ping", node))
        if node == CAS:
            raise PeerLost
        return Ping(node=node, transport="tls", rtt_ms=1.25, dialled_ms=12.5, name="ben")

    def pending(self) -> Sequence[PendingRow]:
        return self.pending_rows

    def approve(self, who: str, trust: str) -> Decision:
        self.asked.append(("approve", who, trust))
        return Decision(who=who, trust=trust)

    def deny(self, who: str) -> Decision:
        self.asked.append(("deny", who))
        return Decision(who=who, trust="denied", closed=1)

    def trust(self, who: str, level: str) -> Decision:
        self.asked.append(("trust", who, level))
        return Decision(who=who, trust=level)

    def forget(self, who: str) -> Decision:
        self.asked.append(("forget", who))
        if who == "deadbeef":
            raise RequestRejected("Nothing was decided about 'deadbeef'.", "who")
        return Decision(who=who, trust="stranger")

    def policy(self) -> Mapping[str, Mapping[str, Any]]:
        return self.live.shown()

    def set_policy(
        self, changes: Mapping[str, Any], unset: Collection[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        self.live.change(changes, unset)
        return self.live.shown()
