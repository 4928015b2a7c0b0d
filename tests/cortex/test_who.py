"""Whom a word means: ids, heads of ids, and names that strangers chose themselves."""

from __future__ import annotations

import pytest

from helexa.cortex.orchestrator.mesh_control import PeerRow
from helexa.cortex.orchestrator.who import decided_about, one_node
from helexa.protocol.errors import PeerUnknown, RequestRejected
from helexa.protocol.ids import NodeId, OperatorId

ANN, BEN, BEN_TOO, LONER = (NodeId(f"{digit}{index:07x}" * 8) for index, digit in enumerate("abbe"))
OF_ANN, OF_BEN = OperatorId("1" * 64), OperatorId("2" * 64)


def row(node: NodeId, operator: str, name: str = "", operator_name: str = "") -> PeerRow:
    return PeerRow(node=node, operator=OperatorId(operator), name=name, operator_name=operator_name)


ROWS = [
    row(ANN, OF_ANN, "gate", "ann"),
    row(BEN, OF_BEN, "ben", "ben"),
    row(BEN_TOO, OF_BEN, "ben-2", "ben"),
    row(LONER, LONER, "loner"),
]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (BEN, BEN),
        (BEN.upper(), BEN),
        (BEN[:12], BEN),
        (OF_BEN[:8], OF_BEN),
        ("f" * 64, "f" * 64),
        ("deadbeef", "deadbeef"),
        ("ben", OF_BEN),
        ("ben-2", BEN_TOO),
        ("gate", ANN),
        ("loner", LONER),
    ],
)
def test_a_decision_is_about_the_operator_where_a_name_may_mean_both(text: str, meant: str) -> None:
    assert decided_about(text, ROWS) == meant


@pytest.mark.parametrize("text", ["nobody", "", "abc", "a000000"])
def test_a_word_for_nobody_is_refused(text: str) -> None:
    with pytest.raises(PeerUnknown):
        decided_about(text, ROWS)
    with pytest.raises(PeerUnknown):
        one_node(text, ROWS)


def test_a_stranger_that_takes_a_known_name_makes_it_ambiguous_and_gains_nothing() -> None:
    mallory = row(NodeId("d" * 64), "d" * 64, "ben", "ben")
    with pytest.raises(RequestRejected, match=r"means 2 here.*use an id"):
        decided_about("ben", [*ROWS, mallory])


def test_a_head_that_two_ids_share_is_ambiguous() -> None:
    twin = row(NodeId(BEN[:10] + "0" * 54), OF_ANN)
    with pytest.raises(RequestRejected, match="means 2 here"):
        decided_about(BEN[:8], [*ROWS, twin])
    assert one_node(BEN[:16], [*ROWS, twin]) == BEN


def test_a_ping_is_to_one_node() -> None:
    assert one_node("ben-2", ROWS) == BEN_TOO
    assert one_node(ANN[:8], ROWS) == ANN
    assert one_node("ann", ROWS) == ANN
    assert one_node("ben", ROWS) == BEN
    with pytest.raises(RequestRejected, match="means 2 here"):
        one_node("ben", [*ROWS[2:], row(NodeId("d" * 64), "d" * 64, "", "ben")])


def test_a_list_of_candidates_is_bounded() -> None:
    crowd = [row(NodeId(f"{n:064x}"), f"{n:064x}", "x") for n in range(100)]
    with pytest.raises(RequestRejected) as refused:
        decided_about("x", crowd)
    assert len(refused.value.message) < 300
