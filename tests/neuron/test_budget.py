"""What fits and what does not, in numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.neuron.budget import Memory, admit, free
from helexa.protocol.errors import DoesNotFit
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import Footprint

M = ModelId("m")
BYTES = st.integers(0, 1 << 40)
MEMORIES = st.builds(Memory, total=BYTES, available=BYTES, reserve=BYTES)
GRANTS = st.dictionaries(st.sampled_from([ModelId("a"), ModelId("b")]), BYTES)


@given(MEMORIES, GRANTS, BYTES)
def test_what_is_admitted_leaves_the_reserve_and_what_is_refused_would_not(
    memory: Memory, granted: dict[ModelId, int], need: int
) -> None:
    footprint = Footprint(weights=need, kv_cache=0, overhead=0)
    usable = min(memory.total - sum(granted.values()), memory.available) - memory.reserve
    if need <= max(0, usable):
        assert admit(M, footprint, memory, granted) == need
    else:
        with pytest.raises(DoesNotFit) as caught:
            admit(M, footprint, memory, granted)
        refusal = caught.value
        assert (refusal.needed_bytes, refusal.free_bytes) == (need, max(0, usable))


def test_a_model_that_still_loads_counts_although_the_system_does_not_see_it_yet() -> None:
    memory = Memory(total=1000, available=1000, reserve=100)
    assert free(memory, {}) == 900
    assert free(memory, {M: 600}) == 300


def test_what_others_took_counts_although_nothing_was_granted() -> None:
    assert free(Memory(total=1000, available=250, reserve=100), {}) == 150


def test_the_refusal_says_what_the_memory_was_for() -> None:
    footprint = Footprint(weights=3 << 30, kv_cache=1 << 30, overhead=64 << 20)
    memory = Memory(total=1 << 30, available=1 << 30, reserve=0)
    with pytest.raises(DoesNotFit) as caught:
        admit(M, footprint, memory, {ModelId("x"): 256 << 20})
    message = caught.value.message
    for part in ("4,160 MiB", "768 MiB", "weights 3.0 GiB", "context 1.0 GiB", "256.0 MiB"):
        assert part in message
