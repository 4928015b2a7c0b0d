"""What a node shows of its operator: `node.cert` and `revocations` in the node's own folder.

Both are public and signed; they are kept as text, so that an operator whose key
lives elsewhere can send them by mail. A node that has no certificate is its own
operator. One that has a certificate which others would refuse does not start:
it would be a stranger to its own fleet without anybody noticing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helexa.mesh.files.armour import CERTIFICATE, REVOCATIONS, ArmourBroken, armour, unarmour
from helexa.mesh.files.private_files import replace_private
from helexa.mesh.identity import NodeKey
from helexa.mesh.operators.operator import CertificateRefused, check_certificate, identities
from helexa.mesh.operators.revocation import read_revocations
from helexa.mesh.statements.sealed import SealBroken
from helexa.protocol.ids import OperatorId
from helexa.protocol.messages import Role
from helexa.protocol.records import Certificate
from helexa.util.home import HomeUnusable

CERTIFICATE_FILE: Final = "node.cert"
REVOCATIONS_FILE: Final = "revocations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A node's own proof of who stands behind it."""

    operator: OperatorId
    identities: tuple[OperatorId, ...]
    """`operator`, then the ids that it had before."""
    certificate: Certificate | None = None
    certificate_blob: bytes = b""
    """For `Hello` and the record; empty where the node is its own operator."""
    revocations_blob: bytes = b""
    """For the record; empty where none is known."""


def load_credentials(
    home: Path, node_key: NodeKey, now_s: float, *, role: Role | None = None
) -> Credentials:
    """What the folder `home` holds for the node of `node_key`, valid at `now_s` (unix seconds).

    Raises HomeUnusable naming the file, what is wrong with it, and the remedy.
    """
    own = OperatorId(node_key.node_id)
    path = home / CERTIFICATE_FILE
    blob = read_armoured(path, CERTIFICATE)
    if not blob:
        return Credentials(
            operator=own,
            identities=(own,),
            revocations_blob=_revocations(home, node_key, (own,)),
        )
    try:
        certificate = check_certificate(blob, node=node_key.node_id, now_s=now_s, role=role)
        known_as = identities(certificate)
    except CertificateRefused as refused:
        raise HomeUnusable(
            f"the certificate {path} {refused.reason}; have the operator sign this node again "
            f"(helexa operator sign {node_key.node_id}), or remove the file to run the node "
            "without an operator"
        ) from refused
    return Credentials(
        operator=certificate.operator,
        identities=known_as,
        certificate=certificate,
        certificate_blob=blob,
        revocations_blob=_revocations(home, node_key, known_as),
    )


def write_certificate(home: Path, blob: bytes) -> None:
    """Make `blob` (checked by the caller) the node's certificate. Raises HomeUnusable."""
    write_armoured(home / CERTIFICATE_FILE, CERTIFICATE, blob)


def write_revocations(home: Path, blob: bytes) -> None:
    """Keep the newest list of the node's operator. Raises HomeUnusable."""
    write_armoured(home / REVOCATIONS_FILE, REVOCATIONS, blob)


def read_armoured(path: Path, header: str) -> bytes:
    """The one statement in `path`; empty where there is no file. Raises HomeUnusable."""
    blobs = read_all_armoured(path, header)
    if len(blobs) > 1:
        raise HomeUnusable(f"{path} holds {len(blobs)} statements instead of one; keep the last")
    return blobs[0] if blobs else b""


def read_all_armoured(path: Path, header: str) -> tuple[bytes, ...]:
    """Every statement in `path`; none where there is no file. Raises HomeUnusable."""
    try:
        return unarmour(header, path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise HomeUnusable(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise HomeUnusable(f"{path} is not what it should be: it is no plain text") from error
    except ArmourBroken as broken:
        raise HomeUnusable(
            f"{path} is not what it should be: {broken}; restore it, or remove it"
        ) from broken


def write_armoured(path: Path, header: str, *blobs: bytes) -> None:
    """Replace `path` by these statements as text. Raises HomeUnusable."""
    try:
        replace_private(path, armour(header, *blobs).encode("ascii"))
    except OSError as error:
        raise HomeUnusable(f"cannot write {path}: {error.strerror or error}") from error


def _revocations(home: Path, node_key: NodeKey, identities: tuple[OperatorId, ...]) -> bytes:
    path = home / REVOCATIONS_FILE
    blob = read_armoured(path, REVOCATIONS)
    if not blob:
        return b""
    try:
        found = read_revocations(blob)
    except SealBroken as broken:
        raise HomeUnusable(
            f"the list {path} is broken: {broken.reason}; get it from the operator again, "
            "or remove it"
        ) from broken
    if found.operator not in identities:
        raise HomeUnusable(
            f"the list {path} is of the operator {found.operator[:10]}, and this node's is "
            f"{identities[0][:10]}; have that one sign this node (helexa operator sign "
            f"{node_key.node_id}), or remove the list"
        )
    if node_key.node_id in found.nodes:
        raise HomeUnusable(
            f"this node was revoked by its operator ({path}); with a new key it is a new node: "
            f"move node.key and {CERTIFICATE_FILE} away and have the operator sign the new one"
        )
    return blob
