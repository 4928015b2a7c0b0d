"""Who may use the control API: the holder of this cortex's admin token."""

from __future__ import annotations

import hmac

from starlette.requests import HTTPConnection

from helexa.protocol.errors import AdminTokenInvalid


class Door:
    """`admit` before anything of a call is read or done."""

    def __init__(self, admin_token: str) -> None:
        self._expected = admin_token.encode()

    def admit(self, asking: HTTPConnection) -> None:
        """Raises AdminTokenInvalid."""
        given = asking.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), self._expected):
            raise AdminTokenInvalid
