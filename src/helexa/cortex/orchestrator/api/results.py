"""Asking several neurons for the same, and saying what came of it on each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
import msgspec

from helexa.protocol.errors import (
    DoesNotFit,
    Draining,
    HelexaError,
    ModelLoading,
    NoCapacity,
    NotAllowed,
    PeerLost,
    QueueFull,
    RequestRejected,
    UpstreamFailed,
    UpstreamTimeout,
)
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import ProvisioningResponse

NEURON_SAYS = (
    RequestRejected, NotAllowed, QueueFull, UpstreamFailed, PeerLost, UpstreamTimeout, DoesNotFit,
    NoCapacity, Draining, ModelLoading,
)  # fmt: skip
"""A neuron's refusal is passed on as it is."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one neuron answered."""

    state: str
    """The model's state there; `failed` where the neuron refused or could not be asked."""
    reason: str = ""
    code: str = ""
    """Of the refusal."""
    command: str = ""
    final: bool = True
    bytes_done: int = 0
    bytes_total: int = 0
    eta_s: float | None = None


class OnNode(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    response: Outcome


class Results(msgspec.Struct, frozen=True, kw_only=True):
    model: ModelId
    results: Sequence[OnNode]


async def each(
    model: ModelId,
    nodes: Sequence[NodeId],
    act: Callable[[NodeId], Awaitable[ProvisioningResponse]],
) -> Results:
    """All at once. The refusal of the only one is raised; of several, each has its own outcome."""
    outcomes: dict[NodeId, Outcome] = {}

    async def act_on(node: NodeId) -> None:
        try:
            said = await act(node)
        except HelexaError as error:
            if len(nodes) == 1:
                raise
            outcomes[node] = Outcome(state="failed", reason=error.message, code=error.code)
        else:
            outcomes[node] = Outcome(
                state=said.state.value,
                reason=said.reason,
                command=said.command,
                final=said.final,
                bytes_done=said.bytes_done,
                bytes_total=said.bytes_total,
                eta_s=said.eta_s,
            )

    if len(nodes) == 1:
        await act_on(nodes[0])
    else:
        async with anyio.create_task_group() as tasks:
            for node in nodes:
                tasks.start_soon(act_on, node)
    return Results(
        model=model,
        results=[OnNode(node=node, response=outcomes[node]) for node in nodes],
    )
