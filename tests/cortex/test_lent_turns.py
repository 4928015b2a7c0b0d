"""Where other operators' requests stand at a model that own clients want, too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from helexa.cortex.gateway.admission.ranks import Rank
from helexa.cortex.gateway.peer_door import PeerDoor, PeerGrant
from helexa.cortex.settings import LimitsSettings
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.routing import RoutingDecision
from helexa.protocol.work import WorkloadClass


class Told:
    """Stands for the queues, and remembers how a request came to them."""

    def __init__(self) -> None:
        self.came: list[tuple[str, Rank, float]] = []

    def admit(self, _ticket: Any, _to: Any, account: str, rank: Rank, weight: float) -> None:
        self.came.append((account, rank, weight))


@pytest.mark.parametrize(
    ("lent", "trust", "workload", "wanted"),
    [
        ("after", Trust.TRUSTED, WorkloadClass.CHAT_INTERACTIVE, Rank.LENT),
        ("after", Trust.TRUSTED, WorkloadClass.CHAT_BULK, Rank.LENT),
        ("beside", Trust.TRUSTED, WorkloadClass.CHAT_INTERACTIVE, Rank.INTERACTIVE),
        ("beside", Trust.KNOWN, WorkloadClass.CHAT_BULK, Rank.BULK),
        ("after", Trust.OWN, WorkloadClass.CHAT_INTERACTIVE, Rank.INTERACTIVE),
    ],
)
def test_an_operator_is_an_account_after_own_clients_or_beside_them(
    lent: str, trust: Trust, workload: WorkloadClass, wanted: Rank
) -> None:
    told = Told()
    settings = LimitsSettings(lent=lent, lent_weight=2.5)
    door = PeerDoor(cast(Any, None), cast(Any, None), cast(Any, None), cast(Any, told), settings)
    standing = Standing(node=NodeId("a" * 64), operator=OperatorId("b" * 64), trust=trust)
    grant = PeerGrant(standing, door._bounds)
    ticket = SimpleNamespace(grant=grant, workload=workload)
    decision = RoutingDecision(model=ModelId("m"), workload=workload)
    door.admit(cast(Any, ticket), decision)
    assert told.came == [(f"operator {'b' * 64}", wanted, 2.5)]
