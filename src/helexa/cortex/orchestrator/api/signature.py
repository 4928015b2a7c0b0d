"""A call signed by a node's key, instead of the admin token.

    x-helexa-node        the signer's node id
    x-helexa-time        unix seconds
    x-helexa-nonce       16 to 64 letters, digits, `-` or `_`, used once
    x-helexa-signature   128 hexadecimal digits: Ed25519 over

        helexa control-call 1 <zero byte>
        cortex id, node id, method, path with query as sent, SHA-256 of the body in
        hexadecimal, time, nonce: joined by line feeds

The cortex's own id is in it, so that a call for one cortex is none for another. Whoever reads a
call on its way can neither change it nor send it again: its nonce is remembered for as long as
its time is near enough.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from starlette.requests import HTTPConnection

from helexa.mesh.identity import NodeKey, verify
from helexa.protocol.errors import Busy, NotAllowed, SignatureInvalid
from helexa.protocol.ids import NodeId, is_node_id

NODE: Final = "x-helexa-node"
TIME: Final = "x-helexa-time"
NONCE: Final = "x-helexa-nonce"
SIGNATURE: Final = "x-helexa-signature"
HEADERS: Final = (NODE, TIME, NONCE, SIGNATURE)

WINDOW_S: Final = 60
"""Between the two clocks, either way."""
NONCES_MAX: Final = 65_536
"""Remembered at a time: five hundred calls a second."""

_DOMAIN: Final = b"helexa control-call 1\x00"
_TIME: Final = re.compile(r"[0-9]{1,12}")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a call says of its signer; nothing of it is proven."""

    node: NodeId
    time: str
    nonce: str
    signature: bytes
    method: str
    target: str

    @classmethod
    def of(cls, asking: HTTPConnection) -> Self | None:
        """None for a call that has no signature. Raises SignatureInvalid for a part of one."""
        node, time, nonce, signature = (asking.headers.get(name, "") for name in HEADERS)
        if not signature:
            return None
        if not (
            is_node_id(node)
            and _TIME.fullmatch(time)
            and _NONCE.fullmatch(nonce)
            and _SIGNATURE.fullmatch(signature)
        ):
            raise SignatureInvalid(f"it takes {', '.join(HEADERS)}, each well formed")
        scope = asking.scope
        query: bytes = scope["query_string"]
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        return cls(
            node=NodeId(node),
            time=time,
            nonce=nonce,
            signature=bytes.fromhex(signature),
            method=scope.get("method", "GET"),
            target=(raw + (b"?" + query if query else b"")).decode("latin-1"),
        )

    def message(self, cortex: NodeId, body: bytes) -> bytes:
        """Exactly what is signed."""
        parts = (
            cortex,
            self.node,
            self.method,
            self.target,
            hashlib.sha256(body).hexdigest(),
            self.time,
            self.nonce,
        )
        return _DOMAIN + "\n".join(parts).encode("latin-1")


def signed(
    key: NodeKey, cortex: NodeId, method: str, target: str, body: bytes, *, unix_s: float
) -> Mapping[str, str]:
    """The headers with which `key` signs a call to `cortex`."""
    claim = Claim(
        node=key.node_id,
        time=str(int(unix_s)),
        nonce=secrets.token_urlsafe(24),
        signature=b"",
        method=method,
        target=target,
    )
    signature = key.sign(claim.message(cortex, body)).hex()
    return {NODE: claim.node, TIME: claim.time, NONCE: claim.nonce, SIGNATURE: signature}


class Signatures:
    """Judges claims. `allows` says whose node may call: those of this cortex's own operator."""

    def __init__(
        self, cortex: NodeId, allows: Callable[[NodeId], bool], *, unix: Callable[[], float]
    ) -> None:
        self._cortex = cortex
        self._allows = allows
        self._unix = unix
        self._began_s = int(unix())
        self._nonces: OrderedDict[tuple[NodeId, str], int] = OrderedDict()

    def prove(self, claim: Claim, body: bytes) -> None:
        """Return once for each call. Raises SignatureInvalid, NotAllowed, or Busy where more calls
        are remembered than may be.
        """
        now_s = int(self._unix())
        off_s = int(claim.time) - now_s
        if abs(off_s) > WINDOW_S:
            raise SignatureInvalid(f"its time is {off_s:+d} s off this cortex's clock")
        if int(claim.time) < self._began_s:
            # The nonces of an earlier run are forgotten, so what it heard is not heard again.
            raise SignatureInvalid("its time is before the start of this cortex")
        if not verify(claim.node, claim.message(self._cortex, body), claim.signature):
            raise SignatureInvalid("it is not of this call, this cortex and that node's key")
        if claim.node != self._cortex and not self._allows(claim.node):
            raise NotAllowed
        self._use(claim, now_s)

    def _use(self, claim: Claim, now_s: int) -> None:
        # In the order of arrival, which is nearly that of the times: old ones are at the front.
        while self._nonces and next(iter(self._nonces.values())) < now_s:
            self._nonces.popitem(last=False)
        once = (claim.node, claim.nonce)
        if self._nonces.get(once, -1) >= now_s:
            raise SignatureInvalid("its nonce was used before")
        if len(self._nonces) >= NONCES_MAX:
            raise Busy("Too many signed calls in a minute.", WINDOW_S)
        # A call from the far end of the window is good for its whole width, and then a second.
        self._nonces[once] = now_s + 2 * WINDOW_S + 1
