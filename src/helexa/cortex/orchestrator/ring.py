"""Which neuron a prompt belongs to that nobody has read yet, by its content alone.

Node ids are public keys, so they lie evenly on a ring already. Among few neurons the
highest of weights made of prompt and neuron decides (rendezvous hashing); among many the
neurons that follow a few points on the ring are found first, without looking at the
others. Either way every cortex says the same, and a neuron that comes or goes moves only
the prompts that were or will be its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

from helexa.protocol.ids import NodeId
from helexa.protocol.routing import RouteHints

KEY_HEAD: Final = 2
"""The head that stands for a prompt: 2,048 bytes. All that share more than that share it, and
few prompts begin alike for so long by their framework's preamble alone."""
_MASK: Final = (1 << 64) - 1


def key_of(hints: RouteHints) -> int | None:
    """The place of a prompt; None for one that is as welcome anywhere."""
    if hints.session:
        return int.from_bytes(blake2b(hints.session.encode(), digest_size=8).digest(), "big")
    if hints.prefixes:
        return hints.prefixes[min(KEY_HEAD, len(hints.prefixes) - 1)]
    return None


def weight(key: int, node: NodeId) -> int:
    """The higher, the more the prompt belongs to this neuron."""
    return _mixed(key ^ int(node[-16:], 16))


def following(key: int, nodes: Sequence[NodeId], points: int) -> Iterator[NodeId]:
    """Of `nodes`, in order of id and not empty, those that follow this many points of the key."""
    for number in range(points):
        key = _mixed(key + number)
        yield nodes[bisect_left(nodes, f"{key:016x}") % len(nodes)]


def _mixed(value: int) -> int:
    # The end of splitmix64: each bit of the argument decides about every bit of the result.
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)
