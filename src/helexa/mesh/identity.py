"""Who a node is: one Ed25519 key, made once and kept in one file.

The public half is the node's id, in the same 64 hexadecimal digits that the
iroh transport uses, so that a link's proven peer, a ticket and a signature all
name a node alike. Losing the file is becoming somebody else to every peer, so
nothing here ever overwrites one.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from nacl.bindings import (
    crypto_sign,
    crypto_sign_BYTES,
    crypto_sign_open,
    crypto_sign_seed_keypair,
    crypto_sign_SEEDBYTES,
)
from nacl.exceptions import CryptoError

from helexa.mesh.files.key_file import KeyKind, KeyUnusable, create_secret, read_secret
from helexa.protocol.ids import NodeId, is_node_id

__all__ = ["KeyUnusable", "NodeKey", "verify"]

_KIND: Final = KeyKind(
    header="helexa-node-key-1",
    noun="node key",
    remedy="restore it from a backup, or move it away to become a new node",
)


class NodeKey:
    """An Ed25519 key pair. Made by `generate`, `from_secret` or `load_or_create`."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != crypto_sign_SEEDBYTES:
            raise ValueError(f"{len(seed)} bytes; a key is {crypto_sign_SEEDBYTES}")
        public, self._private = crypto_sign_seed_keypair(seed)
        self._seed = seed
        self.node_id = NodeId(public.hex())

    @classmethod
    def generate(cls) -> NodeKey:
        """A new random key that is kept nowhere."""
        return cls(secrets.token_bytes(crypto_sign_SEEDBYTES))

    @classmethod
    def from_secret(cls, secret: bytes) -> NodeKey:
        """Raises ValueError unless `secret` is 32 bytes."""
        return cls(secret)

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
        return self._seed

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of exactly `message`."""
        return crypto_sign(message, self._private)[:crypto_sign_BYTES]

    def __repr__(self) -> str:
        # The default would be harmless; this one makes it a promise: no secret in logs.
        return f"NodeKey({self.node_id[:10]}...)"


def verify(node_id: NodeId, message: bytes, signature: bytes) -> bool:
    """Whether the holder of `node_id`'s key signed exactly `message`.

    Strict, as libsodium is: there is one spelling of a signature, and public keys
    of low order, under which anybody can write down a signature that holds for
    every message, have signed nothing.
    """
    if not is_node_id(node_id) or len(signature) != crypto_sign_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, bytes.fromhex(node_id))
    except (CryptoError, ValueError):
        return False
    return True
