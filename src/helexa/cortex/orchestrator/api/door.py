"""Who may use the control API: the holder of the admin token, and nodes of the same operator."""

from __future__ import annotations

import hmac

from starlette.requests import HTTPConnection

from helexa.cortex.orchestrator.api.signature import Claim, Signatures
from helexa.protocol.errors import AdminTokenInvalid


class Door:
    """`admit` before anything of a call is read, `prove` before anything of it is done."""

    def __init__(self, admin_token: str, signatures: Signatures | None = None) -> None:
        self._expected = admin_token.encode()
        self._signatures = signatures

    def admit(self, asking: HTTPConnection) -> Claim | None:
        """What is still to be proven; None when the token is right.

        Raises AdminTokenInvalid, or SignatureInvalid for what cannot be a signature.
        """
        authorization = asking.headers.get("authorization", "")
        if self._signatures is not None and not authorization:
            claim = Claim.of(asking)
            if claim is not None:
                return claim
        given = authorization.removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), self._expected):
            raise AdminTokenInvalid
        return None

    def prove(self, claim: Claim | None, body: bytes) -> None:
        """See `Signatures.prove`; nothing is left to prove where there is no claim."""
        if claim is not None and self._signatures is not None:
            self._signatures.prove(claim, body)
