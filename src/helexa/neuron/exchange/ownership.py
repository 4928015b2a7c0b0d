r"""Which member of a swarm takes which piece from the origin: each piece has one owner.

Rendezvous hashing: of all members the one with the highest hash of (file, member, stripe) owns
a stripe. Members that know of the same members agree without asking, and when one comes or
goes, only what it has or had changes hands. All neurons have to compute the same, so this is
part of what they say to one another: BLAKE2b with 8 bytes of digest over `KEY\nNODE\nSTRIPE`,
read as one big-endian number. A stripe is one piece in files of up to 2,048 pieces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from helexa.neuron.exchange import bits
from helexa.protocol.ids import NodeId

STRIPES_MAX: Final = 2_048
"""Of one file: more would take the loop longer than a piece takes the network."""


def weight(key: str, node: NodeId, stripe: int) -> int:
    told = f"{key}\n{node}\n{stripe}".encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big")


@lru_cache(maxsize=64)
def owned(
    key: str, count: int, members: frozenset[NodeId], *, as_one: bool = False
) -> Mapping[NodeId, int]:
    """The pieces that each member owns. `as_one`: one of them owns all."""
    found = dict.fromkeys(members, 0)
    if not members:
        return found
    width = max(1, count) if as_one else -(-count // STRIPES_MAX) or 1
    for stripe in range(-(-count // width)):
        owner = max(members, key=lambda node: (weight(key, node, stripe), node))
        found[owner] |= bits.full(min(width, count - stripe * width)) << (stripe * width)
    return found
