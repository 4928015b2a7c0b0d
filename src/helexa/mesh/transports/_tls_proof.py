"""Who is at each end of a TLS connection, without any authority.

The server shows a certificate that it made for its own node key. TLS 1.3 makes
it prove that it holds the key, and the dialler compares the key with the node
it wanted; nothing else in the certificate means anything.

The client is not asked for a certificate, because Python's `ssl` would want it
signed by an authority. It signs a challenge instead:

    domain, server's id, nonce, client's id

The server's id is what stops relaying: a node that is dialled cannot pass on
another server's nonce and use the answer there, since the answer names the node
that was dialled. The nonce, fresh for each connection, makes an old answer
worthless. The client's id keeps one signature from speaking for two. A node
never answers itself, so its own answers cannot be sent back to it; and the
domain keeps a signature made for anything else from being one of these.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from helexa.mesh.identity import NodeKey, verify
from helexa.mesh.transports._tls_certificate import node_of, pem
from helexa.protocol.ids import NodeId

ALPN: Final = "helexa/1"
_DOMAIN: Final = b"helexa tls client 1\0"
_ID_BYTES: Final = 32


def server_context(key: NodeKey) -> ssl.SSLContext:
    """For accepting: TLS 1.3 alone, with a certificate made for this key."""
    context = _only_tls_1_3(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    # A link is one connection that stays: tickets to resume it would go unused.
    context.num_tickets = 0
    with _pem_file(pem(key)) as path:
        context.load_cert_chain(path)
    return context


def client_context() -> ssl.SSLContext:
    """For dialling: trusts any certificate; `server_id` must be compared afterwards."""
    context = _only_tls_1_3(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def speaks_helexa(tls: ssl.SSLObject) -> bool:
    return tls.selected_alpn_protocol() == ALPN


def server_id(tls: ssl.SSLObject) -> NodeId | None:
    """The node id that the server's certificate is for, None when it is for none."""
    certificate = tls.getpeercert(binary_form=True)
    return node_of(certificate) if certificate is not None else None


def prove(key: NodeKey, server: NodeId, nonce: bytes) -> bytes:
    """The answer to a challenge of `server`, whose key this connection has been compared with."""
    client = bytes.fromhex(key.node_id)
    return client + key.sign(_statement(server, nonce, client))


def proven_client(server: NodeId, nonce: bytes, answer: bytes) -> NodeId | None:
    """Who answered the challenge that `server` made on this connection, None when nobody did."""
    client, signature = answer[:_ID_BYTES], answer[_ID_BYTES:]
    node = NodeId(client.hex())
    if node == server or not verify(node, _statement(server, nonce, client), signature):
        return None
    return node


def tls_fault(error: OSError) -> str:
    """One line for a person, without the place in somebody's source that OpenSSL adds."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error) or type(error).__name__


def _statement(server: NodeId, nonce: bytes, client: bytes) -> bytes:
    return b"".join((_DOMAIN, bytes.fromhex(server), nonce, client))


def _only_tls_1_3(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    return context


@contextmanager
def _pem_file(content: bytes) -> Iterator[str]:
    """A path to `content` for the block: in memory where the system can, else a 0600 file."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        handle = os.memfd_create("helexa")
        path = f"/proc/self/fd/{handle}"
        remove = False
    else:
        handle, path = tempfile.mkstemp(prefix="helexa-")
        remove = True
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            yield path
    finally:
        if remove:
            Path(path).unlink()
