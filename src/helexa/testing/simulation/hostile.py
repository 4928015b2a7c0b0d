"""Members with valid keys that misbehave, each in one way, on top of a core that behaves.

They use what a real one could: their own key, what they heard, and links to
anybody. None of them can sign for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from helexa.mesh.membership.heads import Short, pack, shorts_in
from helexa.mesh.membership.notary import Entry
from helexa.protocol.gossip import Gossip, News, Records, Suspicion, Want
from helexa.protocol.ids import NodeId, OperatorId
from helexa.testing.simulation.identities import SharedNotary, new_id, usual_draft
from helexa.testing.simulation.world import Node, World

KEPT_MAX: Final = 2_000

Attack: TypeAlias = Callable[[World, Node], None]
"""Makes a node that runs misbehave from now on, until it is killed."""


def flood(world: World, node: Node) -> None:
    """Publishes itself twenty times a second and shows it to whoever it is linked with."""
    notary = SharedNotary(node.id, world.register)

    def act() -> None:
        own = node.membership.own
        assert own is not None
        draft = msgspec.structs.replace(own.signed.record, sequence=flood_sequence(world))
        entry = notary.sign(draft)
        for other in _linked(world, node):
            world.send(node, other, News(heads=entry.head))
            world.send(node, other, Records(records=(entry.signed.blob,)))

    _repeat(world, node, 0.05, act)


def flood_sequence(world: World) -> int:
    """Rises with time, and is above every honest one."""
    return int((2e9 + world.now_s) * 1_000)


def replay(world: World, node: Node) -> None:
    """Keeps every record and statement that it hears, and says old ones again to anybody."""
    records: list[bytes] = []
    statements: list[bytes] = []

    def listen(_sender: Node, message: Gossip) -> None:
        if isinstance(message, Records):
            records.extend(message.records)
        statements.extend(getattr(message, "statements", ()))
        del records[:-KEPT_MAX], statements[:-KEPT_MAX]

    def act() -> None:
        if not records:
            return
        randomness = world.random
        old = randomness.sample(records, min(len(records), 8))
        heads = (world.register.entry_of(blob).head for blob in old)
        said = tuple(randomness.sample(statements, min(len(statements), 8)))
        target = randomness.choice(world.nodes).id
        world.send(node, target, News(heads=b"".join(heads), statements=said))
        world.send(node, target, Records(records=tuple(old), statements=said))

    node.on_message = listen
    _repeat(world, node, 0.1, act)


def accuse(world: World, node: Node) -> None:
    """Says of everybody, ten times a second, that it does not answer."""
    notary = SharedNotary(node.id, world.register)

    def act() -> None:
        members = node.membership.members
        target = world.random.choice(world.nodes).id
        member = members.get(target)
        if member is None:
            return
        said = Suspicion(
            bytes.fromhex(node.id), bytes.fromhex(target), member.signed.sequence, member.pulse
        )
        lie = News(statements=(notary.seal(said),))
        for other in _linked(world, node):
            world.send(node, other, lie)

    _repeat(world, node, 0.1, act)


def grind(world: World, node: Node) -> None:
    """Makes up twenty new members a second, with valid records and nothing behind them."""
    made: dict[Short, Entry] = {}

    def answer(sender: Node, message: Gossip) -> None:
        if isinstance(message, Want):
            found = (made.get(short) for short in shorts_in(message.shorts))
            blobs = tuple(entry.signed.blob for entry in found if entry is not None)
            if blobs:
                world.send(node, sender.id, Records(records=blobs))

    def act() -> None:
        entry = _invented(world)
        made[entry.short] = entry
        if len(made) > KEPT_MAX:
            del made[next(iter(made))]
        for other in _linked(world, node):
            world.send(node, other, News(heads=pack(entry.short, (entry.sequence, 0))))

    node.on_message = answer
    _repeat(world, node, 0.05, act)


ATTACKS: Final[dict[str, Attack]] = {
    "flood": flood,
    "replay": replay,
    "accuse": accuse,
    "grind": grind,
}


def _invented(world: World) -> Entry:
    made = new_id(world.random)
    unix_s = int(world.moment(world.nodes[0]).unix_s)
    draft = msgspec.structs.replace(
        usual_draft(made, OperatorId(made), "x", world.random),
        sequence=unix_s * 1_000,
        issued_s=unix_s,
        expires_s=unix_s + 86_400,
    )
    return SharedNotary(made, world.register).sign(draft)


def _linked(world: World, node: Node) -> Iterable[NodeId]:
    return [world.nodes[number].id for number in node.links]


def _repeat(world: World, node: Node, every_s: float, act: Callable[[], None]) -> None:
    run = node.runs

    def again() -> None:
        if node.is_up and node.runs == run:
            act()
            world.at(every_s, again)

    world.at(every_s, again)
