"""What a place is made of; each part has its one owner elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from helexa.cortex.orchestrator.federation.peers import Peers
from helexa.cortex.orchestrator.links import Links
from helexa.cortex.orchestrator.live_policy import LivePolicy
from helexa.cortex.settings import CortexSettings
from helexa.mesh.admission.gatekeeper import Gatekeeper
from helexa.mesh.discovery.peer_cache import PeerCache
from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.operators.credentials import Credentials
from helexa.mesh.operators.revocation import RevocationBook
from helexa.mesh.overlay import Overlay
from helexa.mesh.trust import Standing, Trust

Emit: TypeAlias = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True, kw_only=True)
class Parts:
    """`node` and `overlay` come last, since what they call back needs all the others."""

    settings: CortexSettings
    key: NodeKey
    credentials: Credentials
    gatekeeper: Gatekeeper
    book: RevocationBook
    links: Links
    peers: Peers
    cache: PeerCache
    policy: LivePolicy
    roles: tuple[str, ...]
    lends: bool
    """Whether this cortex serves other cortexes at all."""
    emit: Emit
    unix: Callable[[], float]
    """Seconds since 1970 by this machine's clock."""
    node: MeshNode = field(init=False)
    overlay: Overlay = field(init=False)

    @property
    def own(self) -> Standing:
        """Who this cortex is, as it judges others."""
        certificate = self.credentials.certificate
        # The operator's word where it gave one: a node cannot sign itself into a region.
        region = (certificate.region if certificate else "") or self.settings.region
        return Standing(
            node=self.key.node_id,
            operator=self.credentials.operator,
            trust=Trust.OWN,
            name=self.settings.name,
            region=region,
        )
