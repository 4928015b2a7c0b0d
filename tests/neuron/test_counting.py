"""Counts of an engine, settled: never more than is possible, never twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helexa.neuron.serving.counting import Bounds, Fault, settled
from helexa.protocol.work import Usage

COUNT = st.integers(0, 1 << 50)
USAGES = st.builds(
    lambda a, b, c, d: Usage(prompt_uncached=a, prompt_cached=b, completion=c, reasoning=d),
    COUNT, COUNT, COUNT, COUNT,
)  # fmt: skip
BOUNDS = st.builds(
    lambda n, p, c, o: Bounds(choices=n, prompts=p, context_tokens=c, output_tokens=o),
    st.integers(1, 8), st.integers(1, 8), st.integers(1, 1 << 20),
    st.none() | st.integers(-5, 1 << 20),
)  # fmt: skip


@given(st.lists(USAGES, max_size=10), BOUNDS)
def test_nothing_settled_is_more_than_possible(counts: list[Usage], bounds: Bounds) -> None:
    used, fault = settled(counts, bounds)
    if not counts:
        assert (used, fault) == (None, Fault.MISSING)
        return
    assert used is not None
    assert used.prompt <= bounds.prompt
    assert used.completion + used.reasoning <= bounds.completion
    assert min(used.prompt_uncached, used.prompt_cached, used.completion, used.reasoning) >= 0


@given(
    st.integers(0, 500), st.lists(st.integers(0, 100), min_size=1, max_size=4), st.integers(0, 3)
)
def test_the_same_said_again_counts_once(prompt: int, answers: list[int], again: int) -> None:
    bounds = Bounds(choices=len(answers), context_tokens=1000)
    said = [Usage(prompt_uncached=prompt, completion=one) for one in answers]
    used, fault = settled(said * (1 + again), bounds)
    assert used == Usage(prompt_uncached=prompt, completion=sum(answers))
    assert fault is (Fault.TWICE if again else None)


def test_what_the_client_allowed_is_the_most() -> None:
    bounds = Bounds(context_tokens=4096, output_tokens=10)
    used, fault = settled([Usage(prompt_uncached=7, completion=11)], bounds)
    assert used == Usage(prompt_uncached=7, completion=10)
    assert fault is Fault.WRONG
