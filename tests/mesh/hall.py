"""A few cores with real keys in one room: what one says the other hears at once."""

from __future__ import annotations

import heapq
import itertools
import random

from helexa.mesh.identity import NodeKey
from helexa.mesh.membership.core import Membership
from helexa.mesh.membership.events import Moment
from helexa.mesh.membership.notary import KeyNotary
from helexa.mesh.membership.presets import WAN
from helexa.mesh.operators.revocation import RevocationBook
from helexa.mesh.trust import Trust
from helexa.protocol.ids import NodeId
from helexa.protocol.records import Record

BEGIN_UNIX_S = 1_800_000_000.0
KEYS = [NodeKey.from_secret(bytes([number + 1]) * 32) for number in range(24)]


def draft(instance="a", **fields):
    given = {"node": NodeId(""), "sequence": 0, "issued_s": 0, "expires_s": 0}
    return Record(**given, instance=instance, **fields)


class Guest:
    """One core, and what it said and found."""

    def __init__(self, hall, key, *, instance="a", members_max=100, admit=None, preset=WAN):
        self.hall = hall
        self.key = key
        self.id = key.node_id
        self.notary = KeyNotary(key.sign, RevocationBook())
        self.skew_s = 0.0
        self.trust = {}
        self.core = Membership(
            key.node_id,
            preset,
            notary=self.notary,
            admit=admit or (lambda signed: self.trust.get(signed.node, Trust.STRANGER)),
            random=random.Random(key.secret_bytes),
            members_max=members_max,
        )
        self.instance = instance
        self.events = []
        self.sent = []

    def do(self, call, *args):
        out = call(Moment(self.hall.now_s, BEGIN_UNIX_S + self.hall.now_s + self.skew_s), *args)
        self.events += out.events
        self.sent += out.sends
        for target, message in out.sends:
            self.hall.post(self, target, message)
        return out

    def publish(self, **fields):
        return self.do(self.core.publish, draft(self.instance, **fields))

    def knows(self, other):
        member = self.core.members.get(other.id)
        return member is not None and member.is_present

    def state_of(self, other):
        return self.core.members[other.id].state

    def found(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def rejected(self, reason):
        return self.core.counters.rejected[reason]


class Hall:
    def __init__(self, count=0, **options):
        self.now_s = 0.0
        self.guests = {}
        self.absent = set()
        self._mail = []
        self._order = itertools.count()
        for key in KEYS[:count]:
            self.enter(key, **options)

    def enter(self, key, **options):
        guest = self.guests[key.node_id] = Guest(self, key, **options)
        guest.publish()
        return guest

    def introduce_all(self):
        first, *others = self.guests.values()
        for other in others:
            other.do(other.core.link_up, first.id)
        self.advance(6.0)
        return list(self.guests.values())

    def post(self, sender, target, message):
        if target in self.guests:
            due_s = self.now_s + 0.01
            heapq.heappush(self._mail, (due_s, next(self._order), sender.id, target, message))

    def advance(self, span_s):
        end_s = self.now_s + span_s
        while True:
            wakes = [
                (guest.core.wake_s, guest.id)
                for guest in self.guests.values()
                if guest.id not in self.absent
            ]
            next_s = min([wake for wake, _ in wakes] + [mail[0] for mail in self._mail[:1]])
            if next_s > end_s:
                break
            self.now_s = max(self.now_s, next_s)
            while self._mail and self._mail[0][0] <= self.now_s:
                _, _, sender, target, message = heapq.heappop(self._mail)
                if not self.absent & {sender, target}:
                    guest = self.guests[target]
                    guest.do(guest.core.receive, sender, message)
            for wake_s, node in wakes:
                if wake_s <= self.now_s:
                    guest = self.guests[node]
                    guest.do(guest.core.tick)
        self.now_s = end_s
