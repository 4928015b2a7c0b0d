"""Putting what was signed elsewhere into a node's folder, if the node would start with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helexa.cli.local_nodes import LocalNode
from helexa.cli.output import day
from helexa.cli.verb import Failed
from helexa.mesh.files.armour import CERTIFICATE, REVOCATIONS, ArmourBroken, unarmour
from helexa.mesh.operators.operator import CertificateRefused, check_certificate
from helexa.mesh.operators.revocation import read_revocations
from helexa.mesh.statements.sealed import SealBroken


def install(
    path: Path, raw: bytes, local: LocalNode, *, now_s: float
) -> tuple[str, dict[str, Any]]:
    """A certificate or a list of revocations, by its first line; what was done, in words and facts.

    Raises Failed naming the file and what is wrong with it; nothing was replaced then.
    """
    text = raw.decode("ascii", "replace").strip()
    if text.startswith(REVOCATIONS):
        return _revocations(path, _one(path, REVOCATIONS, text), local)
    return _certificate(path, _one(path, CERTIFICATE, text), local, now_s)


def _certificate(
    path: Path, blob: bytes, local: LocalNode, now_s: float
) -> tuple[str, dict[str, Any]]:
    if not local.exists:
        raise Failed(
            f"there is no {local.role.value} in {local.home} yet; start it once, and have the "
            "operator sign its id"
        )
    try:
        made = check_certificate(blob, node=local.node(), now_s=now_s, role=local.role)
    except CertificateRefused as refused:
        raise Failed(
            f"{path}: the certificate {refused.reason}; have the operator sign "
            f"{local.node()} (helexa operator sign)"
        ) from refused
    local.take_certificate(blob)
    whose = made.name or made.operator[:12]
    found = {"node": made.node, "operator": made.operator, "expires_s": made.expires_s}
    return f"the {local.role.value} is {whose}'s until {day(made.expires_s)} UTC", found


def _revocations(path: Path, blob: bytes, local: LocalNode) -> tuple[str, dict[str, Any]]:
    try:
        listed = read_revocations(blob)
    except SealBroken as broken:
        raise Failed(f"{path}: the list is broken: {broken.reason}; get it again") from broken
    if listed.operator not in local.operators():
        raise Failed(
            f"{path}: the list is of the operator {listed.operator[:12]}, whose the "
            f"{local.role.value} in {local.home} is not"
        )
    local.take_revocations(blob)
    found = {"operator": listed.operator, "version": listed.version, "revoked": list(listed.nodes)}
    return f"the {local.role.value} knows {len(listed.nodes)} revoked nodes", found


def _one(path: Path, header: str, text: str) -> bytes:
    try:
        blobs = unarmour(header, text)
    except ArmourBroken as broken:
        raise Failed(f"{path} is nothing that an operator signed: {broken}") from broken
    if len(blobs) > 1:
        raise Failed(f"{path} holds {len(blobs)} statements; give each a file of its own")
    return blobs[0]
