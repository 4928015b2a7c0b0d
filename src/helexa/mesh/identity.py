"""Who a node is: one Ed25519 key, made once and kept in one file.

The public half is the node's id, in the same 64 hexadecimal digits that the
iroh transport uses, so that a link's proven peer, a ticket and a signature all
name a node alike. Losing the file is becoming somebody else to every peer, so
nothing here ever overwrites one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from helexa.mesh.key_file import KeyKind, KeyUnusable, create_secret, read_secret
from helexa.protocol.ids import NodeId, is_node_id

__all__ = ["KeyUnusable", "NodeKey", "verify"]

_KIND: Final = KeyKind(
    header="helexa-node-key-1",
    noun="node key",
    remedy="restore it from a backup, or move it away to become a new node",
)


class NodeKey:
    """An Ed25519 key pair. Made by `generate`, `from_secret` or `load_or_create`."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.node_id = NodeId(private.public_key().public_bytes_raw().hex())

    @classmethod
    def generate(cls) -> NodeKey:
        """A new random key that is kept nowhere."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: bytes) -> NodeKey:
        """Raises ValueError unless `secret` is 32 bytes."""
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    @classmethod
    def load_or_create(cls, path: Path) -> NodeKey:
        """The key in `path`, made there (0600, folder 0700) when there is none.

        Raises KeyUnusable for a file that others can read or that holds no key:
        the operator decides what became of it, this never replaces it.
        """
        create_secret(path, _KIND)
        return cls.from_secret(read_secret(path, _KIND))

    @property
    def secret_bytes(self) -> bytes:
        """The 32 bytes that are the key: for a transport that has to hold it too."""
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of exactly `message`."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        # The default would be harmless; this one makes it a promise: no secret in logs.
        return f"NodeKey({self.node_id[:10]}...)"


def verify(node_id: NodeId, message: bytes, signature: bytes) -> bool:
    """Whether the holder of `node_id`'s key signed exactly `message`."""
    if not is_node_id(node_id) or node_id in _NOBODYS:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(node_id)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _nobodys() -> frozenset[str]:
    prime = (1 << 255) - 19
    eighth = int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    )
    heights = (0, 1, prime - 1, prime, prime + 1, eighth, prime - eighth)
    return frozenset(
        (height | sign << 255).to_bytes(32, "little").hex() for height in heights for sign in (0, 1)
    )


_NOBODYS: Final = _nobodys()
"""The public keys of low order, in every spelling. One signature that anybody can write down holds
for every message under them (and the library checks no more than the equation), so as a name each
belongs to whoever likes to use it."""
