"""Looking whether somebody is there: directly, then through helpers, then through others.

Nothing of this is public. Only when the target answered neither this node nor
two rounds of helpers is it reported to whoever decides about suspicions; at 10%
loss that happens to a living node about once in a million probes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from helexa.mesh.membership.desk import Desk
from helexa.mesh.membership.notary import SealBroken
from helexa.mesh.membership.partners import Partners
from helexa.protocol.gossip import Ack, Answer, Probe, Relay
from helexa.protocol.ids import NodeId

CHECKS_MAX: Final = 256
RELAYS_MAX: Final = 256
HEALTH_WORST: Final = 4


class Check:
    """One target that has not answered yet."""

    __slots__ = ("direct", "helpers", "nacks", "nonce", "rounds", "stage", "target")

    def __init__(self, target: NodeId, nonce: int) -> None:
        self.target = target
        self.nonce = nonce
        self.stage = 0
        self.direct = 0
        self.rounds = 0
        self.helpers: dict[NodeId, None] = {}
        self.nacks = 0


class Checks:
    """`failed` is called with a target that nobody reached."""

    def __init__(
        self,
        desk: Desk,
        partners: Partners,
        failed: Callable[[NodeId], None],
    ) -> None:
        self.health = 0
        """0 is well; each step stretches this node's patience, as its own failures should."""
        self._desk = desk
        self._partners = partners
        self._failed = failed
        self._by_target: dict[NodeId, Check] = {}
        self._by_nonce: dict[int, Check] = {}
        self._relays: dict[int, tuple[NodeId, int, NodeId]] = {}

    def start(self, target: NodeId) -> None:
        """Begin to look, unless that goes on already."""
        if target in self._by_target or len(self._by_target) >= CHECKS_MAX:
            return
        check = Check(target, self._nonce())
        self._by_target[target] = check
        self._by_nonce[check.nonce] = check
        self._advance(check)

    def stop(self, target: NodeId) -> None:
        """Look no more; nothing is reported."""
        check = self._by_target.pop(target, None)
        if check is not None:
            del self._by_nonce[check.nonce]

    def forget_all(self) -> None:
        """To be called after sleeping: what was not heard in time says nothing about anybody."""
        self._by_target.clear()
        self._by_nonce.clear()

    # --- what comes back

    def acked(self, sender: NodeId, ack: Ack) -> None:
        """An answer came: to a check of this node, or to a probe that it made for another."""
        relay = self._relays.pop(ack.nonce, None)
        if relay is not None:
            asker, nonce, target = relay
            if sender == target:
                self._desk.send(asker, Ack(nonce=nonce, proof=ack.proof))
            else:
                self._relays[ack.nonce] = relay
            return
        check = self._by_nonce.get(ack.nonce)
        if check is None:
            return
        if sender == check.target:
            self._succeed(check)
            self._partners.reached(check.target, directly=True)
        elif sender in check.helpers:
            if not ack.reached:
                check.nacks += 1
            elif self._is_proof(check, ack.proof):
                self._succeed(check)
                self._partners.reached(check.target, directly=False)

    def _succeed(self, check: Check) -> None:
        self.stop(check.target)
        self.health = max(0, self.health - 1)

    def _is_proof(self, check: Check, proof: bytes) -> bool:
        try:
            answer = self._desk.notary.unseal_answer(proof)
        except SealBroken:
            return False
        return answer.node.hex() == check.target and answer.nonce == check.nonce

    # --- what others ask for

    def probed(self, sender: NodeId, probe: Probe) -> bytes:
        """What the ack has to carry as proof."""
        if not probe.prove or not self._desk.credit(sender).relays.take(self._desk.now_s):
            return b""
        return self._desk.notary.seal(Answer(bytes.fromhex(self._desk.me), probe.prove))

    def help(self, sender: NodeId, relay: Relay) -> None:
        """Probe for another; say so when there was no answer in time."""
        desk = self._desk
        entry = desk.directory.find(relay.target)
        allowed = desk.credit(sender).relays.take(desk.now_s)
        if entry is None or not allowed or len(self._relays) >= RELAYS_MAX:
            desk.reject("relay", sender)
            return
        nonce = self._nonce()
        self._relays[nonce] = (sender, relay.nonce, relay.target)
        desk.send(relay.target, Probe(nonce=nonce, prove=relay.nonce))

        def give_up() -> None:
            if self._relays.pop(nonce, None) is not None:
                desk.send(sender, Ack(nonce=relay.nonce, reached=False))

        # The asker waits for a round of its own; an answer after that helps nobody.
        desk.after(0.7 * desk.preset.indirect_s, give_up)

    # --- the rounds

    def _advance(self, check: Check) -> None:
        preset = self._desk.preset
        if check.direct < preset.direct_tries:
            check.direct += 1
            self._probe(check)
            self._wait(check, preset.direct_s)
            return
        deaf = bool(check.helpers) and not check.nacks
        if check.rounds < 2 or (check.rounds == 2 and deaf):
            if deaf and check.rounds:
                # Not even a helper says that it could not: perhaps it is this node.
                self.health = min(HEALTH_WORST, self.health + 1)
            check.rounds += 1
            self._ask_helpers(check)
            self._wait(check, preset.indirect_s)
            return
        self.stop(check.target)
        self._failed(check.target)

    def _probe(self, check: Check) -> None:
        chosen = check.target in self._partners.neighbours
        heads, statements = self._partners.take(check.target)
        self._desk.send(
            check.target,
            Probe(nonce=check.nonce, chosen=chosen, heads=heads, statements=statements),
        )

    def _ask_helpers(self, check: Check) -> None:
        self._probe(check)
        asked = [check.target, *check.helpers]
        helpers = self._partners.some(self._desk.preset.helpers, besides=asked)
        for helper in helpers:
            check.helpers[helper] = None
            self._desk.send(helper, Relay(nonce=check.nonce, target=check.target))

    def _wait(self, check: Check, span_s: float) -> None:
        check.stage += 1
        stage = check.stage

        def over() -> None:
            if self._by_target.get(check.target) is check and check.stage == stage:
                self._advance(check)

        self._desk.after(span_s * (1 + self.health / 2), over)

    def _nonce(self) -> int:
        return self._desk.random.getrandbits(62) + 1
