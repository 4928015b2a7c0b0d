"""What an operator can see and do about the mesh while a cortex runs: the seam behind the API.

Implemented where sessions, membership and admission meet; the control API and its
commands need no more than this. Every call is about this one node. Whatever is
refused is a `HelexaError`, with words for the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
from msgspec import Meta

from helexa.mesh.admission.invites import EXPIRES_IN_S_MAX, USES_MAX
from helexa.protocol.ids import NodeId, OperatorId

INVITE_S_MIN: Final = 60

Count = Mapping[str, int]
OnStep = Callable[[Mapping[str, Any]], None]
"""Takes a step of a join as JSON can hold it: `name`, `outcome`, `took_s`, `detail`, `advice`."""


class InviteWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a guest with the ticket may do. `role` empty admits cortexes and neurons."""

    uses: Annotated[int, Meta(ge=1, le=USES_MAX)] = 1
    expires_s: Annotated[int, Meta(ge=INVITE_S_MIN, le=EXPIRES_IN_S_MAX)] = 86_400
    """From now."""
    role: Literal["", "cortex", "neuron"] = ""
    trust: Literal["known", "trusted"] = "known"


class MeshStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where this node stands. Every field may grow; readers skip what they do not know."""

    node: NodeId
    operator: OperatorId
    operator_name: str = ""
    certificate: Mapping[str, Any] = {}
    """`serial`, `roles`, `issued_s`, `expires_s`, `region`, `contact`; empty without one."""
    ticket: str = ""
    addresses: Mapping[str, Sequence[str]] = {}
    """By transport, as bound."""
    preset: str = ""
    admission: str = ""
    neurons: str = ""
    """The mode for neurons."""
    joined: bool = True
    """False after `leave`, until somebody joins again."""
    members: Count = {}
    """By state: alive, suspect, dead, left; this node aside."""
    neighbours: int = 0
    """Links that membership keeps."""
    pending: int = 0
    denied: int = 0
    """Operators and nodes that are denied, listed or by hand."""
    rejected: Count = {}
    """Records and messages not taken, by reason, since the start."""
    traffic: Mapping[str, float] = {}
    """`sent_bytes`, `received_bytes`, and both a second over the last minute."""
    clock_off_s: float = 0.0
    """How far this node's clock is from most others'; 0 while nothing is known."""
    policy: Mapping[str, Any] = {}
    """Of `[federation]`, where changed at run time."""


class PeerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One other cortex that this one knows."""

    node: NodeId
    operator: OperatorId
    name: str = ""
    operator_name: str = ""
    region: str = ""
    trust: str = "stranger"
    state: str = "alive"
    """alive, suspect, dead or left."""
    since_s: float = 0.0
    """In this state for."""
    neighbour: bool = False
    link: str = ""
    """The transport of the open session; empty without one."""
    rtt_ms: float | None = None
    offers: Sequence[str] = ()
    """Models that it would serve for this cortex."""
    withheld: Sequence[str] = ()
    """Models that it has and would not serve for this cortex; `note` may say why."""
    agent: str = ""
    sequence: int = 0
    address: str = ""
    note: str = ""
    """What an operator should know: why it is not asked, since when it is silent."""


class PendingRow(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who asked to be let in and waits for an answer."""

    node: NodeId
    operator: OperatorId
    role: str
    name: str = ""
    operator_name: str = ""
    address: str = ""
    since_s: float = 0.0
    """First asked so long ago."""
    seen_s: float = 0.0
    """Last asked so long ago."""


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """One round trip over the session with a peer, which was opened for it if need be."""

    node: NodeId
    transport: str
    rtt_ms: float
    dialled_ms: float | None = None
    """How long opening the session took; None when it stood already."""
    name: str = ""
    address: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What now holds for an operator or a node, after approve, deny, trust or forget."""

    who: str
    """The full id."""
    trust: str
    """The level that it has now; `pending` or a mode's word where nothing was decided."""
    closed: int = 0
    """Links that were ended by this."""


class MeshControl(Protocol):
    def status(self) -> MeshStatus: ...

    def peers(self) -> Sequence[PeerRow]:
        """Members first that are alive, then the others that are remembered; bounded."""
        ...

    async def join(self, ticket: str, on_step: OnStep) -> Mapping[str, Any]:
        """Join by a ticket; every step is told when it ends, and is in the report again.

        Ends in bounded time, joined or not: what fails is in the report, whose `joined` is the
        end of it all. Raises RequestRejected when `ticket` is none.
        """
        ...

    async def leave(self) -> None:
        """Say goodbye to all members and stay out, over restarts too, until `join`."""
        ...

    def ticket(self, invite: InviteWish | None) -> str:
        """The ticket of this node, with a fresh invite inside when one is wished for."""
        ...

    async def ping(self, node: NodeId) -> Ping:
        """Raises PeerUnknown, PeerLost or UpstreamTimeout, in a few seconds at most."""
        ...

    def pending(self) -> Sequence[PendingRow]: ...

    # `who` is the full id of an operator or node, or the head of one that only the
    # admission knows. Raises WhoUnclear where it names nobody.

    def approve(self, who: str, trust: str) -> Decision:
        """`trust` is known or trusted."""
        ...

    def deny(self, who: str) -> Decision: ...

    def trust(self, who: str, level: str) -> Decision:
        """`level` is known or trusted."""
        ...

    def forget(self, who: str) -> Decision:
        """Undo what was decided at run time; settings hold on."""
        ...

    def policy(self) -> Mapping[str, Mapping[str, Any]]:
        """`LivePolicy.shown`."""
        ...

    def set_policy(
        self, changes: Mapping[str, Any], unset: Collection[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """`LivePolicy.change`, in force when this returns; the policy that then holds."""
        ...
