"""What answers say of who served them, made once for each target and model and kept.

Names come from other nodes, so only what cannot break a header is left of them.
"""

from __future__ import annotations

import re
from typing import Final

from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.routing import Label
from helexa.protocol.work import Price

KEPT_MAX: Final = 16_384
NAME_CHARS_MAX: Final = 64
OPERATOR_DIGITS: Final = 16
"""Of its id: enough for a request's policy to name it by."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._:@+ -]")


class Labels:
    """Kept as long as the three things that each was made of are the very same."""

    def __init__(self) -> None:
        self._kept: dict[tuple[NodeId, ModelId], tuple[object, object, object, Label]] = {}
        self._recent: dict[tuple[NodeId, ModelId], Label] = {}
        self._view: object = None
        self._catalogue: object = None

    def recent(self, view: object, catalogue: object) -> dict[tuple[NodeId, ModelId], Label]:
        """Those of this very view and catalogue, to read and to add to: most requests meet the
        same two as the one before, and need to look at nothing else.
        """
        if view is not self._view or catalogue is not self._catalogue:
            self._view, self._catalogue = view, catalogue
            self._recent.clear()
        return self._recent

    def get(
        self, node: NodeId, model: ModelId, first: object, second: object, third: object
    ) -> Label | None:
        kept = self._kept.get((node, model))
        if kept is None:
            return None
        # Looked at with every request, so no loop and no comparison by value.
        if kept[0] is first and kept[1] is second and kept[2] is third:
            return kept[3]
        return None

    def put(
        self,
        node: NodeId,
        model: ModelId,
        label: Label,
        first: object,
        second: object,
        third: object,
    ) -> Label:
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[node, model] = first, second, third, label
        return label


def label(*, digest: str, price: Price, operator: str, name: str, via: bool = False) -> Label:
    """Of a neuron called `name`; of another cortex, where it is asked `via` that one."""
    safe = safe_name(name).encode()
    owner = operator[:OPERATOR_DIGITS].encode()
    who = b"operator=%s; via=%s" % (owner, safe) if via else b"%s; operator=%s" % (safe, owner)
    return Label(
        digest=digest,
        price=price,
        operator=operator,
        name=safe,
        who_line=b"x-helexa-served-by: %s\r\n" % who,
        price_line=b"x-helexa-price: %s\r\n" % priced(price),
    )


def safe_name(name: str) -> str:
    return _UNSAFE.sub("?", name[:NAME_CHARS_MAX]).strip() or "?"


def priced(price: Price) -> bytes:
    """Nano-credits a token; kinds that cost the same as the one before are left out."""
    found = b"prompt=%d; completion=%d" % (price.prompt_uncached, price.completion)
    if price.prompt_cached != price.prompt_uncached:
        found += b"; cached=%d" % price.prompt_cached
    if price.reasoning != price.completion:
        found += b"; reasoning=%d" % price.reasoning
    return found
