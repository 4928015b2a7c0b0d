"""The one certificate that a node shows over TLS: the same bytes for every node but for its key.

TLS 1.3 wants an X.509 certificate, and all that matters in ours is the key. So
it has one fixed form - DER, version 3, serial 1, CN=helexa, from 2000 to 2999,
no extensions - with two gaps, for the key and for its own signature. Reading
one is comparing bytes: whatever is not exactly of this form is nobody's, so
there is no parser to deceive, and no X.509 library to load (3 MB a node).
"""

from __future__ import annotations

import base64
from typing import Final

from helexa.mesh.identity import NodeKey
from helexa.protocol.ids import NodeId

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_NAME: Final = bytes.fromhex("3011310f300d06035504030c06") + b"helexa"
_ED25519: Final = bytes.fromhex("300506032b6570")
_SIGNED_HEAD: Final = (
    bytes.fromhex("308183a003020102020101")  # Version 3, serial 1.
    + _ED25519
    + _NAME
    # Nobody looks at the dates; wide, so that a clock that is off refuses nobody.
    + bytes.fromhex("3020170d")
    + b"000101000000Z"
    + bytes.fromhex("180f")
    + b"29990101000000Z"
    + _NAME
    + bytes.fromhex("302a")
    + _ED25519
    + bytes.fromhex("032100")
)
_HEAD: Final = bytes.fromhex("3081d0") + _SIGNED_HEAD
_TAIL: Final = _ED25519 + bytes.fromhex("034100")
_PRIVATE_HEAD: Final = bytes.fromhex("302e020100") + _ED25519 + bytes.fromhex("04220420")


def certificate(key: NodeKey) -> bytes:
    """DER, signed by the key that it is for."""
    signed = _SIGNED_HEAD + bytes.fromhex(key.node_id)
    return _HEAD + bytes.fromhex(key.node_id) + _TAIL + key.sign(signed)


def node_of(der: bytes) -> NodeId | None:
    """The node whose certificate this is; None for a certificate of any other form.

    Its signature proves nothing and is not looked at: TLS makes the server prove
    that it holds the key.
    """
    end = len(_HEAD) + KEY_BYTES
    is_ours = (
        len(der) == end + len(_TAIL) + SIGNATURE_BYTES
        and der.startswith(_HEAD)
        and der.startswith(_TAIL, end)
    )
    return NodeId(der[len(_HEAD) : end].hex()) if is_ours else None


def pem(key: NodeKey) -> bytes:
    """Private key (PKCS 8) and certificate, which is all that `ssl` reads. A secret."""
    return _armour("PRIVATE KEY", _PRIVATE_HEAD + key.secret_bytes) + _armour(
        "CERTIFICATE", certificate(key)
    )


def _armour(label: str, der: bytes) -> bytes:
    text = base64.encodebytes(der)
    # 76 characters a line where 64 are customary; OpenSSL reads either.
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), text, label.encode())
