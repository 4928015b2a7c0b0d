"""Which replicas fit into this neuron's memory, as arithmetic on bytes.

What does not fit is refused with the numbers. It is not made to fit: a smaller
context than was announced would surprise a client much later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from helexa.protocol.errors import DoesNotFit
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import Footprint
from helexa.util.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    total: int
    """What the machine or the container has, or the operator's limit if that is less."""
    available: int
    """What the system says could be taken now."""
    reserve: int
    """Left to the rest of the machine."""


def free(memory: Memory, granted: Mapping[ModelId, int]) -> int:
    """Bytes that one more replica may take.

    Grants are counted in full from the moment they are given, because a model
    that is still loading has not taken its memory yet; what others on the
    machine took shows in `available`.
    """
    by_grants = memory.total - memory.reserve - sum(granted.values())
    return max(0, min(by_grants, memory.available - memory.reserve))


def returned(memory: Memory, freed: int) -> Memory:
    """As it will be once a replica that uses so many bytes is gone."""
    return replace(memory, available=min(memory.total, memory.available + freed))


def admit(
    model: ModelId,
    need: Footprint,
    memory: Memory,
    granted: Mapping[ModelId, int],
    *,
    elsewhere: int = 0,
) -> int:
    """The bytes to grant; those `elsewhere` lie on devices. Raises DoesNotFit."""
    room = free(memory, granted)
    needed = max(0, need.total - elsewhere)
    if needed <= room:
        return needed
    detail = (
        f"weights {format_bytes(need.weights)}, context {format_bytes(need.kv_cache)}, "
        f"working memory {format_bytes(need.overhead)}"
    )
    if granted:
        detail += f"; {len(granted)} loaded hold {format_bytes(sum(granted.values()))}"
    if elsewhere:
        detail += f"; {format_bytes(elsewhere)} of it on devices, which have room"
    raise DoesNotFit(model=model, needed_bytes=needed, free_bytes=room, detail=detail)
