"""Invites: a cortex's signed promise to admit whoever shows it, so often and so long.

An invite rides inside a ticket and names nobody, so that it can be made before
anybody asked. The cortex that signed it checks it and counts its uses
(`gatekeeper.py`); to every other node it is worth nothing.
"""

from __future__ import annotations

import secrets
from typing import Final

from helexa.mesh import identity
from helexa.mesh.operators.operator import CLOCK_SLACK_S
from helexa.mesh.statements.sealed import SealBroken, Sign, Verify, seal, unseal
from helexa.mesh.trust import Trust
from helexa.protocol.ids import NodeId
from helexa.protocol.messages import Role
from helexa.protocol.records import Invite

INVITE_BYTES_MAX: Final = 512
"""About 200 are used; it has to fit into a ticket that a person copies."""
USES_MAX: Final = 10_000
EXPIRES_IN_S_MAX: Final = 365 * 86_400
SERIAL_CHARS_MAX: Final = 32
LEVELS: Final = (Trust.KNOWN, Trust.TRUSTED)


class InviteRefused(Exception):
    """An invite that admits nobody here. Says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def issue_invite(
    sign: Sign,
    issuer: NodeId,
    *,
    now_s: float,
    expires_in_s: float,
    uses: int = 1,
    role: Role | None = None,
    trust: Trust = Trust.KNOWN,
) -> bytes:
    """A sealed `Invite` to the cortex `issuer`, whose key `sign` is of.

    `now_s` is unix seconds; `uses` counts nodes, not visits; `role` None admits
    either. Raises ValueError naming the accepted range.
    """
    if not 1 <= uses <= USES_MAX:
        raise ValueError(f"{uses} uses; accepted are 1..{USES_MAX}")
    if not 1 <= expires_in_s <= EXPIRES_IN_S_MAX:
        raise ValueError(
            f"valid for {expires_in_s:g} s; accepted are 1..{EXPIRES_IN_S_MAX} (a year)"
        )
    if trust not in LEVELS:
        raise ValueError(f"an invite makes a guest known or trusted, not {trust.word}")
    invite = Invite(
        issuer=issuer,
        serial=secrets.token_hex(8),
        expires_s=int(now_s + expires_in_s),
        uses=uses,
        role=role.value if role is not None else "",
        trust=trust.word,
    )
    return seal(sign, invite)


def check_invite(
    blob: bytes, issuer: NodeId, now_s: float, role: Role, *, verify: Verify = identity.verify
) -> Invite:
    """The invite in `blob`: proven to be `issuer`'s, valid at `now_s`, and for a `role`.

    Uses are counted elsewhere. Raises InviteRefused.
    """
    try:
        invite = unseal(blob, Invite, lambda i: i.issuer, verify, bytes_max=INVITE_BYTES_MAX)
    except SealBroken as broken:
        raise InviteRefused(f"the invite is broken: {broken.reason}") from broken
    if invite.issuer != issuer:
        raise InviteRefused(f"the invite is to another cortex, {invite.issuer[:10]}")
    if invite.expires_s <= now_s:
        raise InviteRefused("the invite has expired; ask for another")
    if invite.expires_s > now_s + EXPIRES_IN_S_MAX + CLOCK_SLACK_S:
        raise InviteRefused("the invite is valid for longer than any; check this node's clock")
    if invite.role not in ("", role.value):
        raise InviteRefused(f"the invite is for a {invite.role[:16]!r}, not for a {role.value}")
    if (
        not 1 <= invite.uses <= USES_MAX
        or not 1 <= len(invite.serial) <= SERIAL_CHARS_MAX
        or invite.trust not in {level.word for level in LEVELS}
    ):
        raise InviteRefused("the invite is not one that this build understands")
    return invite
