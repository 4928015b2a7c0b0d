"""Whom an operator means: ids are 64 digits long, and people type names or the heads of ids.

A name is what a stranger calls itself, so it decides only where nobody else uses
it; two operators under one name are told apart by their ids, never by guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from helexa.protocol.errors import PeerUnknown, RequestRejected
from helexa.protocol.ids import NodeId, OperatorId, is_node_id

HEAD_DIGITS_MIN: Final = 8
"""Enough that a head typed from a table does not meet a stranger's id by chance."""
_NAMED_MAX: Final = 4
_HEX: Final = frozenset("0123456789abcdef")


class Row(Protocol):
    """A peer or an applicant, as far as naming goes."""

    @property
    def node(self) -> NodeId: ...
    @property
    def operator(self) -> OperatorId: ...
    @property
    def name(self) -> str: ...
    @property
    def operator_name(self) -> str: ...


def decided_about(text: str, rows: Sequence[Row]) -> str:
    """The operator or node that a decision is about. A name that both bear means the operator,
    whose other nodes are meant as well.

    The head of an id that no row has is passed on: somebody may be remembered who is not here.
    Raises PeerUnknown, or RequestRejected when several are meant.
    """
    if is_node_id(text.lower()):
        return text.lower()
    ids = {one for row in rows for one in (row.node, row.operator)}
    heads = sorted(one for one in ids if _is_head(text) and one.startswith(text.lower()))
    if heads:
        return _only(text, heads)
    if _is_head(text):
        return text.lower()
    named = [row for row in rows if text and text in (row.name, row.operator_name)]
    operators = sorted({row.operator for row in named})
    if len(operators) > 1:
        return _only(text, operators)
    if any(row.operator_name == text for row in named):
        return operators[0]
    return _only(text, sorted({row.node for row in named}))


def one_node(text: str, rows: Sequence[Row]) -> NodeId:
    """The one node of `rows` with this id, head of an id, or name.

    Raises PeerUnknown, or RequestRejected when several are meant.
    """
    ids = [row.node for row in rows if text.lower() == row.node] or [
        row.node for row in rows if _is_head(text) and row.node.startswith(text.lower())
    ]
    found = ids or [row.node for row in rows if text and text == row.name]
    found = found or [row.node for row in rows if text and text == row.operator_name]
    return NodeId(_only(text, sorted(set(found))))


def _is_head(text: str) -> bool:
    return HEAD_DIGITS_MIN <= len(text) <= 64 and set(text.lower()) <= _HEX


def _only(text: str, found: Sequence[str]) -> str:
    if not found:
        raise PeerUnknown(text)
    if len(found) > 1:
        raise RequestRejected(
            f"{text[:80]!r} means {len(found)} here: {_listed(found)}; use an id.", "who"
        )
    return found[0]


def _listed(ids: Iterable[str]) -> str:
    heads = [f"{one[:16]}..." for one in ids]
    return ", ".join(heads[:_NAMED_MAX] + (["and more"] if len(heads) > _NAMED_MAX else []))
