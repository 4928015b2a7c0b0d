"""Who stands behind a node: an operator's key, and the certificates that it signs.

One operator has many nodes. Its key signs, for each, that the node is its own;
the key itself may stay on a machine that no mesh reaches. A key is replaced by
one that the old key names as its heir, so that lists which name the old key go
on meaning the same operator.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helexa.mesh import identity
from helexa.mesh.files.key_file import KeyKind, KeyUnusable, create_secret, read_secret
from helexa.mesh.identity import NodeKey
from helexa.mesh.statements.plain_text import (
    CONTACT_CHARS_MAX,
    NAME_CHARS_MAX,
    REGION_CHARS_MAX,
    is_plain,
)
from helexa.mesh.statements.sealed import SealBroken, Verify, seal, unseal
from helexa.protocol.ids import NodeId, OperatorId, is_node_id
from helexa.protocol.messages import Role
from helexa.protocol.records import Certificate, Succession

CLOCK_SLACK_S: Final = 120
"""How far two honest clocks may differ: time servers keep them within one second, a machine
that just woke up or never asked one is often off by a minute."""
SUCCESSIONS_MAX: Final = 8
"""Keys before the present one that still count; at one a year nobody's list is older."""
SUCCESSION_BYTES_MAX: Final = 512
CERTIFICATE_BYTES_MAX: Final = 4_096
"""Eight successions take under 2 KB, the texts under 1 KB."""
DAYS_MAX: Final = 3_650
_DAY_S: Final = 86_400
_SERIAL_CHARS_MAX: Final = 64
_ROLES_MAX: Final = 8
_ROLE_CHARS_MAX: Final = 32

_KIND: Final = KeyKind(
    header="helexa-operator-key-1",
    noun="operator key",
    remedy="restore it from a backup",
)


class CertificateRefused(Exception):
    """A certificate that proves nothing here. Says why, fit for an operator to read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OperatorKey:
    """An operator's Ed25519 key. Made by `generate`, `create` or `load`."""

    def __init__(self, pair: NodeKey) -> None:
        self._pair = pair
        self.operator_id = OperatorId(pair.node_id)

    @classmethod
    def generate(cls) -> OperatorKey:
        """A new random key that is kept nowhere."""
        return cls(NodeKey.generate())

    @classmethod
    def create(cls, path: Path) -> OperatorKey:
        """A new key in `path` (0600, folder 0700).

        Raises KeyUnusable when a file is there: whoever made it is who this operator is.
        """
        if not create_secret(path, _KIND):
            raise KeyUnusable(
                f"the operator key {path} exists already and is never replaced; "
                "to go on under another key, run: helexa operator rotate"
            )
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> OperatorKey:
        """The key in `path`. Raises KeyUnusable, also when there is no such file."""
        return cls(NodeKey.from_secret(read_secret(path, _KIND)))

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of exactly `message`."""
        return self._pair.sign(message)

    def __repr__(self) -> str:
        return f"OperatorKey({self.operator_id[:10]}...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a node is proven to be."""

    node: NodeId
    operator: OperatorId
    identities: tuple[OperatorId, ...]
    """`operator`, then the ids that it had before, latest first."""
    certificate: Certificate | None = None
    """None where the node is its own operator."""


def certify(
    key: OperatorKey,
    node: NodeId,
    roles: Sequence[Role],
    *,
    now_s: float,
    days: int,
    region: str = "",
    contact: str = "",
    name: str = "",
    succeeds: Sequence[bytes] = (),
) -> bytes:
    """A sealed `Certificate` for `node`, valid from `now_s` (unix seconds) for `days`.

    `succeeds` are the sealed successions that lead to `key`, oldest first.
    Raises ValueError for what every reader would refuse.
    """
    if not is_node_id(node):
        raise ValueError(f"{node!r} is no node id: 64 hexadecimal digits in lower case")
    if not 1 <= days <= DAYS_MAX:
        raise ValueError(f"{days} days; a certificate is valid for 1 to {DAYS_MAX}")
    certificate = Certificate(
        operator=key.operator_id,
        node=node,
        roles=tuple(role.value for role in roles),
        serial=secrets.token_hex(8),
        issued_s=int(now_s),
        expires_s=int(now_s) + days * _DAY_S,
        region=region,
        contact=contact,
        name=name,
        succeeds=tuple(succeeds),
    )
    blob = seal(key.sign, certificate)
    try:
        check_certificate(blob, node=node, now_s=now_s)
    except CertificateRefused as error:
        raise ValueError(error.reason) from error
    return blob


def check_certificate(
    blob: bytes,
    *,
    node: NodeId,
    now_s: float,
    role: Role | None = None,
    verify: Verify = identity.verify,
) -> Certificate:
    """The certificate in `blob`, proven and valid at `now_s` for `node` (as `role`, where given).

    Raises CertificateRefused.
    """
    certificate = read_certificate(blob, verify)
    if certificate.node != node:
        raise CertificateRefused(f"is for the node {certificate.node[:10]}, not for {node[:10]}")
    if certificate.issued_s > now_s + CLOCK_SLACK_S:
        raise CertificateRefused(
            f"is valid only from {day(certificate.issued_s)}; check the clocks of both machines"
        )
    if certificate.expires_s <= now_s:
        raise CertificateRefused(f"expired on {day(certificate.expires_s)}")
    if role is not None and role.value not in certificate.roles:
        allowed = " and ".join(certificate.roles) or "no role"
        raise CertificateRefused(f"is for {allowed}, not for a {role.value}")
    return certificate


def read_certificate(blob: bytes, verify: Verify = identity.verify) -> Certificate:
    """The certificate in `blob`, its signature and successions proven, whenever and whoever's.

    Raises CertificateRefused.
    """
    try:
        certificate = unseal(
            blob, Certificate, lambda c: c.operator, verify, bytes_max=CERTIFICATE_BYTES_MAX
        )
    except SealBroken as broken:
        raise CertificateRefused(f"is broken: {broken.reason}") from broken
    if (problem := _problem(certificate)) is not None:
        raise CertificateRefused(problem)
    identities(certificate, verify)
    return certificate


def identities(
    certificate: Certificate, verify: Verify = identity.verify
) -> tuple[OperatorId, ...]:
    """The operator of `certificate`, then every id it had before, latest first; each link proven.

    Raises CertificateRefused for a chain that is too long or does not lead here.
    """
    if len(certificate.succeeds) > SUCCESSIONS_MAX:
        raise CertificateRefused(f"names more than {SUCCESSIONS_MAX} earlier keys")
    found = [certificate.operator]
    for blob in reversed(certificate.succeeds):
        try:
            link = read_succession(blob, verify)
        except SealBroken as broken:
            raise CertificateRefused(f"holds a broken succession: {broken.reason}") from broken
        if link.new != found[-1] or link.old in found:
            raise CertificateRefused("holds successions that do not lead to its operator")
        found.append(link.old)
    return tuple(found)


def identify(
    node: NodeId,
    certificate: bytes,
    *,
    now_s: float,
    role: Role | None = None,
    is_revoked: Callable[[OperatorId, NodeId], bool] | None = None,
    verify: Verify = identity.verify,
) -> Identity:
    """Who `node` is by the sealed `certificate` that it shows; its own operator without one.

    `is_revoked` is a `RevocationBook`'s. Raises CertificateRefused.
    """
    if not certificate:
        own = OperatorId(node)
        return Identity(node=node, operator=own, identities=(own,))
    checked = check_certificate(certificate, node=node, now_s=now_s, role=role, verify=verify)
    if is_revoked is not None and is_revoked(checked.operator, node):
        raise CertificateRevoked("was revoked by its operator")
    return Identity(
        node=node,
        operator=checked.operator,
        identities=identities(checked, verify),
        certificate=checked,
    )


class CertificateRevoked(CertificateRefused):
    """The operator took its word back."""


def succeed(old: OperatorKey, new: OperatorKey, now_s: float) -> bytes:
    """A sealed `Succession`: `old` says that it signs as `new` from `now_s` (unix seconds) on."""
    statement = Succession(old=old.operator_id, new=new.operator_id, issued_s=int(now_s))
    return seal(old.sign, statement)


def read_succession(blob: bytes, verify: Verify = identity.verify) -> Succession:
    """The succession in `blob`, proven to be the old key's word. Raises SealBroken."""
    return unseal(blob, Succession, lambda s: s.old, verify, bytes_max=SUCCESSION_BYTES_MAX)


def day(unix_s: float) -> str:
    """`2026-01-31`, for messages; what no calendar holds is written as the number that it is."""
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(unix_s))
    except (OverflowError, OSError, ValueError):
        return f"second {unix_s:.0f}"


def _problem(certificate: Certificate) -> str | None:
    if not is_node_id(certificate.node):
        return "names no node"
    # A role that a newer build invented does no harm here.
    if len(certificate.roles) > _ROLES_MAX or not all(
        is_plain(role, _ROLE_CHARS_MAX) for role in certificate.roles
    ):
        return "is for roles that are none"
    if not (
        is_plain(certificate.serial, _SERIAL_CHARS_MAX)
        and is_plain(certificate.name, NAME_CHARS_MAX)
        and is_plain(certificate.region, REGION_CHARS_MAX)
        and is_plain(certificate.contact, CONTACT_CHARS_MAX)
    ):
        return (
            "has a text that is too long or not plain (name and region up to "
            f"{NAME_CHARS_MAX} characters, contact up to {CONTACT_CHARS_MAX})"
        )
    return None
