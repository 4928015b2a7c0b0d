"""Who failed so often that it is passed over for a while: one circuit for a model at a node.

    closed --failures--> open --time--> half open --one request--> closed, or open for longer

`heard` and `tried` are the whole policy, and pure; `Breakers` keeps the circuits that are not
as new. What a client did wrong never counts, and neither does a node that says that it is full,
drains or loads: it said so in good order. Nobody is passed over for want of somebody else: that
is for whoever consults this to see to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from helexa.cortex.settings import SurvivalSettings
from helexa.protocol.errors import (
    InternalFault,
    PeerLost,
    RuntimeExited,
    RuntimeMalformed,
    RuntimeRefused,
    StreamInterrupted,
    UpstreamFailed,
    UpstreamTimeout,
)
from helexa.protocol.ids import ModelId, NodeId

OK: Final = "ok"
FAILURES: Final = frozenset(
    one.code
    for one in (
        InternalFault,
        PeerLost,
        RuntimeExited,
        RuntimeMalformed,
        RuntimeRefused,
        StreamInterrupted,
        UpstreamFailed,
        UpstreamTimeout,
    )
)
REMEMBERED: Final = 20
"""Outcomes that a share of failures is taken of."""
JUDGED_FROM: Final = 10
"""Of fewer, a share says nothing."""
_LAST: Final = (1 << REMEMBERED) - 1
CIRCUITS_MAX: Final = 65_536
"""Kept at once; above, the new ones are not: nothing is passed over by mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    failures: int
    """In a row; 0 passes nobody over."""
    share: float
    out_s: float
    out_s_max: float

    @classmethod
    def of(cls, settings: SurvivalSettings) -> Self:
        return cls(
            failures=settings.eject_failures,
            share=settings.eject_share,
            out_s=settings.eject_s,
            out_s_max=max(settings.eject_s_max, settings.eject_s),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    in_a_row: int = 0
    """Failures since the last success."""
    outcomes: int = 0
    """The last ones as bits, the newest lowest: 1 is a failure."""
    count: int = 0
    """How many of the bits are outcomes."""
    times: int = 0
    """How often it was opened without being well in between."""
    until_s: float = 0.0
    """When it is half open; 0 where it is closed."""
    probing: bool = False
    """Whether the one request that tries it is on its way."""
    why: str = ""

    def why_out(self, now_s: float) -> str:
        """Why it gets no request now; empty where it may."""
        if not self.until_s or (now_s >= self.until_s and not self.probing):
            return ""
        left_s = max(self.until_s - now_s, 0.0)
        when = "being tried again" if self.probing else f"tried again in {left_s:.0f} s"
        return f"passed over after {self.why}, {when}"


NEW: Final = Circuit()


def heard(one: Circuit, *, ok: bool, now_s: float, rules: Rules) -> Circuit:
    """After a request that ended well, or by the node's fault."""
    if one.until_s:
        if not one.probing:
            return one  # It began before; what tries it decides.
        if ok:
            # How often it was out is forgotten only when it has been well for a while.
            return Circuit(times=one.times)
        return _opened(one, one.why, now_s, rules)
    one = replace(
        one,
        in_a_row=0 if ok else one.in_a_row + 1,
        outcomes=((one.outcomes << 1) | (not ok)) & _LAST,
        count=min(one.count + 1, REMEMBERED),
    )
    failed = one.outcomes.bit_count()
    if ok:
        return NEW if not failed and one.count == REMEMBERED else one
    if one.in_a_row >= rules.failures:
        return _opened(one, f"{one.in_a_row} failures in a row", now_s, rules)
    if one.count >= JUDGED_FROM and failed >= rules.share * one.count:
        return _opened(one, f"{failed} failures in {one.count} requests", now_s, rules)
    return one


def tried(one: Circuit) -> Circuit:
    """A request goes there, whatever this says: it is the one that tries an open circuit."""
    return replace(one, probing=True) if one.until_s else one


def let_be(one: Circuit) -> Circuit:
    """A request ended that says nothing about the node."""
    return replace(one, probing=False) if one.probing else one


def _opened(one: Circuit, why: str, now_s: float, rules: Rules) -> Circuit:
    out_s = min(rules.out_s * 2.0 ** min(one.times, 32), rules.out_s_max)
    return Circuit(times=one.times + 1, until_s=now_s + out_s, why=why)


class Breakers:
    """The circuits of one cortex. A request to a node that is well costs two look-ups."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._known: dict[tuple[NodeId, ModelId], Circuit] = {}

    @property
    def known(self) -> Mapping[tuple[NodeId, ModelId], Circuit]:
        """Those that are not as new."""
        return self._known

    def why_out(self, node: NodeId, model: ModelId, now_s: float) -> str:
        one = self._known.get((node, model))
        return one.why_out(now_s) if one is not None else ""

    def open_at(self, now_s: float) -> int:
        """How many are passed over."""
        return sum(1 for one in self._known.values() if one.why_out(now_s))

    def started(self, node: NodeId, model: ModelId) -> None:
        if self._known and (one := self._known.get((node, model))) is not None:
            self._known[node, model] = tried(one)

    def finished(self, node: NodeId, model: ModelId, outcome: str, now_s: float) -> None:
        ok = outcome == OK
        if ok and not self._known:
            return
        key = (node, model)
        one = self._known.get(key)
        if one is None:
            if ok or outcome not in FAILURES or not self._rules.failures:
                return
            if len(self._known) >= CIRCUITS_MAX:
                return
            one = NEW
        if ok or outcome in FAILURES:
            one = heard(one, ok=ok, now_s=now_s, rules=self._rules)
        else:
            one = let_be(one)
        if one == NEW:
            self._known.pop(key, None)
        else:
            self._known[key] = one

    def forget(self, node: NodeId) -> None:
        """It was started anew, and what it did before says nothing."""
        for key in [key for key in self._known if key[0] == node]:
            del self._known[key]
