"""The nodes that live under this home: who they are, and what they hold of their operator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helexa.cli.client import running
from helexa.config import Config
from helexa.mesh.files.armour import CERTIFICATE
from helexa.mesh.identity import NodeKey
from helexa.mesh.operators.credentials import (
    CERTIFICATE_FILE,
    read_armoured,
    write_certificate,
    write_revocations,
)
from helexa.mesh.operators.operator import CertificateRefused, identities, read_certificate
from helexa.protocol.ids import NodeId, OperatorId
from helexa.protocol.messages import Role

KEY_FILE: Final = "node.key"


@dataclass(frozen=True, slots=True)
class LocalNode:
    role: Role
    home: Path
    """The role's own folder."""

    @property
    def exists(self) -> bool:
        return (self.home / KEY_FILE).exists()

    @property
    def runs(self) -> bool:
        return running(self.home) is not None

    def node(self) -> NodeId:
        """Its id; a node that never ran gets its key now. Raises KeyUnusable."""
        return NodeKey.load_or_create(self.home / KEY_FILE).node_id

    def operators(self) -> tuple[OperatorId, ...]:
        """Whose it is by its certificate, earlier ids included; none without one.

        Raises HomeUnusable for a file that is no certificate.
        """
        blob = read_armoured(self.home / CERTIFICATE_FILE, CERTIFICATE)
        if not blob:
            return ()
        try:
            return identities(read_certificate(blob))
        except CertificateRefused:
            return ()  # The node itself says at its start what is wrong with it.

    def take_certificate(self, blob: bytes) -> None:
        write_certificate(self.home, blob)

    def take_revocations(self, blob: bytes) -> None:
        write_revocations(self.home, blob)


def local_nodes(config: Config) -> dict[str, LocalNode]:
    """By the word that names the role."""
    return {
        "cortex": LocalNode(Role.CORTEX, config.cortex.home),
        "neuron": LocalNode(Role.NEURON, config.neuron.home),
    }
