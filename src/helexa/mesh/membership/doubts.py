"""Who is suspected by whom, when that becomes death, and whose word has worn out.

Nobody's word alone kills, and death itself is never told: every node concludes
it from signed suspicions and time, in which the target may object. Who accuses
and is refuted again and again is not heard for a while.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from helexa.mesh.membership.desk import Desk
from helexa.mesh.membership.heads import Short, Version
from helexa.mesh.membership.limits import Allowance, Recent
from helexa.mesh.membership.notary import Entry
from helexa.protocol.ids import NodeId

ACCUSERS_MAX: Final = 3
"""Of one target: enough to be sure, and the fourth is not passed on."""
NODES_ENOUGH: Final = 3
OPERATORS_ENOUGH: Final = 2
ACCUSATION_BURST: Final = 10
"""As many as a node has partners: it may lose all of them at once."""
ACCUSATION_RATE: Final = 0.5
MARKS_MAX: Final = 10
"""Refuted accusations until a voice is not heard. A partition of a few seconds costs each honest
accuser one for every partner on the other side."""
MARKS_FADE: Final = 1 / 60
VOICES_MAX: Final = 1_024


class Voice:
    """How much one accuser is still worth."""

    __slots__ = ("accusations", "marks")

    def __init__(self, now_s: float) -> None:
        self.accusations = Allowance(ACCUSATION_BURST, ACCUSATION_RATE, now_s)
        self.marks = Allowance(MARKS_MAX, MARKS_FADE, now_s)


class Doubt:
    """One suspect: who says so, and when that is decided."""

    __slots__ = ("accusers", "began_s", "by_me", "due_s", "entry", "heard", "version")

    def __init__(self, entry: Entry, version: Version, now_s: float) -> None:
        self.entry = entry
        self.version = version
        self.began_s = now_s
        self.due_s = math.inf
        self.accusers: dict[NodeId, bytes] = {}
        self.by_me = False
        """This node looked for itself."""
        self.heard = False
        """It spoke to this node since."""


class Doubts:
    """`died` and `cleared` are called with a doubt that is over."""

    def __init__(
        self,
        desk: Desk,
        died: Callable[[Doubt], None],
        cleared: Callable[[Doubt], None],
    ) -> None:
        self.since: dict[Short, float] = {}
        """Suspects, and since when on the monotonic clock."""
        self._desk = desk
        self._died = died
        self._cleared = cleared
        self._doubts: dict[Short, Doubt] = {}
        self._voices: Recent[NodeId, Voice] = Recent(lambda: Voice(desk.now_s), VOICES_MAX)

    def about(self, short: Short) -> Doubt | None:
        """The doubt about that member, if there is one."""
        return self._doubts.get(short)

    def may_accuse(self, accuser: NodeId) -> bool:
        """Whether that node is heard now; it pays for it."""
        voice = self._voices.of(accuser)
        now_s = self._desk.now_s
        return voice.marks.left(now_s) >= 1 and voice.accusations.take(now_s)

    def is_heard(self, accuser: NodeId) -> bool:
        """Whether that voice has not worn out here."""
        return self._voices.of(accuser).marks.left(self._desk.now_s) >= 1

    def mark(self, accuser: NodeId) -> None:
        """It accused somebody who turned out to live."""
        self._voices.of(accuser).marks.take(self._desk.now_s)

    def open(self, entry: Entry) -> Doubt:
        """The doubt about that member, begun now where there is none."""
        doubt = self._doubts.get(entry.short)
        if doubt is None:
            version = self._desk.directory.version(entry.short)
            doubt = self._doubts[entry.short] = Doubt(entry, version, self._desk.now_s)
            self.since[entry.short] = self._desk.now_s
        return doubt

    def accuse(self, doubt: Doubt, accuser: NodeId, blob: bytes) -> None:
        """Note a proven accusation; `blob` is the sealed statement."""
        doubt.accusers[accuser] = blob
        self.pace(doubt)

    def pace(self, doubt: Doubt) -> None:
        """Set when the doubt is decided: the sooner, the more say so."""
        preset = self._desk.preset
        voices = len(doubt.accusers.keys() | ({self._desk.me} if doubt.by_me else set()))
        enough = min(ACCUSERS_MAX, max(1, self._desk.directory.present - 1))
        share = 1.0 if enough == 1 else math.log(max(1, voices)) / math.log(enough)
        span_s = preset.suspicion_max_s - share * (preset.suspicion_max_s - preset.suspicion_min_s)
        due_s = doubt.began_s + max(preset.suspicion_min_s, span_s)
        if due_s < doubt.due_s:
            doubt.due_s = due_s
            self._arm(doubt)

    def refuted(self, short: Short) -> None:
        """The target objected, or published anew: its accusers were wrong."""
        doubt = self._end(short)
        if doubt is not None:
            for accuser in doubt.accusers:
                self.mark(accuser)
            self._cleared(doubt)

    def drop(self, short: Short) -> None:
        """It left, or is forgotten."""
        self._end(short)

    def postpone(self, span_s: float) -> None:
        """Give everyone as much longer as this host slept."""
        for doubt in self._doubts.values():
            doubt.due_s += span_s

    def _arm(self, doubt: Doubt) -> None:
        self._desk.timers.at(doubt.due_s, lambda: self._decide(doubt))

    def _decide(self, doubt: Doubt) -> None:
        short = doubt.entry.short
        if self._doubts.get(short) is not doubt:
            return
        if self._desk.now_s < doubt.due_s:
            self._arm(doubt)
            return
        self._end(short)
        if self._is_enough(doubt):
            self._died(doubt)
        else:
            self._cleared(doubt)

    def _is_enough(self, doubt: Doubt) -> bool:
        if doubt.by_me:
            return True
        if doubt.heard:
            return False
        found = (self._desk.directory.find(accuser) for accuser in doubt.accusers)
        operators = {entry.signed.operator for entry in found if entry is not None}
        return len(operators) >= OPERATORS_ENOUGH or len(doubt.accusers) >= NODES_ENOUGH

    def _end(self, short: Short) -> Doubt | None:
        self.since.pop(short, None)
        return self._doubts.pop(short, None)
