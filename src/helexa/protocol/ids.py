"""Identifiers, as types: a request id passed where a node id is wanted fails to type-check."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Final, NewType

NodeId = NewType("NodeId", str)
"""The node's Ed25519 public key, 64 lowercase hexadecimal digits."""

OperatorId = NewType("OperatorId", str)
"""The operator's Ed25519 public key; a node without an operator is its own."""

RequestId = NewType("RequestId", str)
"""`req_` and 24 hexadecimal digits; one per client request, the same on every hop."""

ReplicaId = NewType("ReplicaId", str)
"""One loaded copy of a model on one neuron."""

ModelId = NewType("ModelId", str)
"""The name that clients put into `model`."""

_NODE_ID: Final = re.compile(r"[0-9a-f]{64}\Z")
_MODEL_ID: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._:@+-]*(/[A-Za-z0-9][A-Za-z0-9._:@+-]*){0,3}\Z"
)

MODEL_ID_CHARS_MAX: Final = 200


def is_node_id(text: str) -> bool:
    return _NODE_ID.match(text) is not None


def is_model_id(text: str) -> bool:
    """Whether `text` may name a model: path-safe segments, never `..`, at most 200 characters.

    A model id becomes a file name on neurons and a label in metrics, so what
    could climb out of a folder or break a label is refused at every door.
    """
    return (
        len(text) <= MODEL_ID_CHARS_MAX and ".." not in text and _MODEL_ID.match(text) is not None
    )


def new_request_id() -> RequestId:
    """Unpredictable, and not for use from several threads."""
    return RequestId("req_" + next(_random_names))


def _names() -> Iterator[str]:
    # The kernel is asked for many at a time: one question costs as much as a tenth of a
    # request's whole way through the gateway.
    while True:
        block = secrets.token_hex(_NAME_BYTES * _NAMES_AT_ONCE)
        for start in range(0, len(block), 2 * _NAME_BYTES):
            yield block[start : start + 2 * _NAME_BYTES]


_NAME_BYTES: Final = 12
_NAMES_AT_ONCE: Final = 256
_random_names: Final = _names()
