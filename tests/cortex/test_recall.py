"""Where heads of prompts were read lately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.fleets import node

from helexa.cortex.orchestrator.recall import HOLDERS_MAX, REPORTED_MAX, VOID_MAX, Recall
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ReplicaLoad

M = ModelId("m")


def reported(*heads: int) -> ReplicaLoad:
    return ReplicaLoad(model=M, prefixes=heads)


def test_the_longest_head_that_a_neuron_has_read_counts() -> None:
    recall = Recall()
    recall.sent(node(1), M, (1, 2, 3))
    recall.sent(node(2), M, (1, 2, 9))
    assert recall.matches(M, (1, 2, 3, 4)) == {node(1): 3, node(2): 2}
    assert recall.matches(M, (1, 2, 3, 4), least=3) == {node(1): 3}
    assert not recall.matches(M, (7, 8))
    assert not recall.matches(ModelId("other"), (1, 2, 3))


def test_what_a_neuron_reports_counts_like_what_was_sent_there() -> None:
    recall = Recall()
    recall.reported(node(1), reported(5, 6))
    assert recall.matches(M, (5, 6, 7)) == {node(1): 2}


def test_a_report_that_says_nothing_new_changes_nothing() -> None:
    recall = Recall(heads_max=2)
    recall.reported(node(1), reported(5, 6))
    recall.sent(node(2), M, (7, 8))
    recall.reported(node(1), reported(5, 6))
    # Were it taken anew, it would have pushed the newer ones out.
    assert recall.matches(M, (7, 8)) == {node(2): 2}


def test_an_unloaded_model_has_forgotten_and_what_it_reads_afterwards_counts_again() -> None:
    recall = Recall()
    recall.sent(node(1), M, (1, 2))
    recall.sent(node(2), M, (1, 2))
    recall.reported(node(1), reported(1, 2))
    recall.forget(node(1), M)
    assert recall.matches(M, (1, 2)) == {node(2): 2}
    recall.reported(node(1), reported(1))
    assert recall.matches(M, (1, 2)) == {node(1): 1, node(2): 2}


def test_what_one_says_too_much_is_not_looked_at() -> None:
    recall = Recall()
    recall.reported(node(1), reported(*range(REPORTED_MAX * 4)))
    assert len(recall) == REPORTED_MAX


def test_voids_are_bounded() -> None:
    recall = Recall()
    recall.sent(node(1), M, (1,))
    for number in range(VOID_MAX + 10):
        recall.forget(node(number), M)
    recall.drop({node(number) for number in range(VOID_MAX)})
    assert len(recall._void) == VOID_MAX


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.lists(st.integers(0, 30), min_size=1, max_size=6)),
        max_size=60,
    )
)
def test_the_memory_keeps_its_bounds_and_the_latest(sent: list[tuple[int, list[int]]]) -> None:
    recall = Recall(heads_max=16)
    for number, heads in sent:
        recall.sent(node(number), M, heads)
        assert len(recall) <= 16
        assert recall.matches(M, heads)[node(number)] == len(heads)
        assert all(len(holders) <= HOLDERS_MAX for holders in recall._holders.values())
