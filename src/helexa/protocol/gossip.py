"""What cortexes tell one another about who is alive. All of it is told; nothing is asked.

Each message may carry news: sealed records (`protocol/records.py`) and claims
about members. What a message is for stands in its docstring, when it is sent in
`mesh/membership`.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from helexa.protocol.base import Message

NEWS_MAX: Final = 256
"""Of one kind in one message."""

Sealed: TypeAlias = bytes
Records: TypeAlias = Annotated[tuple[Sealed, ...], Meta(max_length=NEWS_MAX)]


class Probe(Message, frozen=True, kw_only=True, tag="mesh.probe"):
    """Are you there? Answered by `Ack` with the same `nonce`."""

    nonce: int
    records: Records = ()


class Ack(Message, frozen=True, kw_only=True, tag="mesh.ack"):
    nonce: int
    records: Records = ()


Gossip: TypeAlias = Probe | Ack
