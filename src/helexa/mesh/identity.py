"""Who a node is: one Ed25519 key, made once and kept in one file.

The public half is the node's id, in the same 64 hexadecimal digits that the
iroh transport uses, so that a link's proven peer, a ticket and a signature all
name a node alike. Losing the file is becoming somebody else to every peer, so
nothing here ever overwrites one.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from helexa.protocol.ids import NodeId, is_node_id

_HEADER: Final = "helexa-node-key-1"
_SECRET_BYTES: Final = 32
_FILE_BYTES_MAX: Final = 1_024


class KeyUnusable(Exception):
    """A key file that this node will not run with. Says which file and what to do."""


class NodeKey:
    """An Ed25519 key pair. Made by `generate`, `from_secret` or `load_or_create`."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.node_id = NodeId(private.public_key().public_bytes_raw().hex())

    @classmethod
    def generate(cls) -> NodeKey:
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
        try:
            if not path.exists():
                _create(path)
            return cls.from_secret(_read(path))
        except OSError as error:
            raise KeyUnusable(
                f"the node key {path} cannot be used: {error.strerror or error}; "
                "check the owner and the permissions of the file and its folder"
            ) from error

    @property
    def secret_bytes(self) -> bytes:
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def __repr__(self) -> str:
        # The default would be harmless; this one makes it a promise: no secret in logs.
        return f"NodeKey({self.node_id[:10]}...)"


def verify(node_id: NodeId, message: bytes, signature: bytes) -> bool:
    """Whether the holder of `node_id`'s key signed exactly `message`."""
    if not is_node_id(node_id):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(node_id)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    text = f"{_HEADER} {NodeKey.generate().secret_bytes.hex()}\n"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: of two processes that start at once the second
        # fails here and reads the first one's key instead of replacing it.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise KeyUnusable(f"the node key {path} is not a regular file; move it away")
        if status.st_mode & 0o077:
            raise KeyUnusable(
                f"the node key {path} can be used by others (mode "
                f"{stat.S_IMODE(status.st_mode):04o}); if nobody read it, run: chmod 600 {path}"
            )
        content = file.read(_FILE_BYTES_MAX)
    header, _, digits = content.decode("ascii", "replace").strip().partition(" ")
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        secret = b""
    if header != _HEADER or len(secret) != _SECRET_BYTES:
        raise KeyUnusable(
            f"the node key {path} does not hold a key ({_HEADER!r} and 64 hexadecimal digits); "
            "restore it from a backup, or move it away to become a new node"
        )
    return secret
