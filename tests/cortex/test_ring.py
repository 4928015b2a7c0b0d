"""Which neuron a prompt belongs to by its content."""

from __future__ import annotations

import random
from collections import Counter

from helexa.cortex.orchestrator.ring import KEY_HEAD, following, key_of, weight
from helexa.protocol.ids import NodeId
from helexa.protocol.routing import RouteHints


def nodes(count: int) -> list[NodeId]:
    chance = random.Random(3)
    return sorted(NodeId(f"{chance.getrandbits(256):064x}") for _ in range(count))


def keys(count: int) -> list[int]:
    chance = random.Random(4)
    return [chance.getrandbits(63) for _ in range(count)]


def test_prompts_spread_evenly_over_neurons() -> None:
    few = nodes(3)
    homes = Counter(max(few, key=lambda node: weight(key, node)) for key in keys(3000))
    assert all(900 < count < 1100 for count in homes.values())


def test_a_neuron_that_goes_moves_only_its_own_prompts() -> None:
    all_of = nodes(5)
    for key in keys(500):
        home = max(all_of, key=lambda node: weight(key, node))
        rest = [node for node in all_of if node != all_of[0]]
        if home != all_of[0]:
            assert max(rest, key=lambda node: weight(key, node)) == home


def test_the_neurons_behind_a_point_change_only_for_keys_near_one_that_comes() -> None:
    many = nodes(500)
    without = [node for node in many if node != many[250]]
    moved = 0
    for key in keys(400):
        found, others = set(following(key, many, 3)), set(following(key, without, 3))
        assert found - {many[250]} <= others
        moved += found != others
    assert moved < 12


def test_the_session_or_else_a_middle_head_is_the_key() -> None:
    assert key_of(RouteHints()) is None
    heads = tuple(range(10, 16))
    assert key_of(RouteHints(prefixes=heads)) == heads[KEY_HEAD]
    assert key_of(RouteHints(prefixes=heads[:1])) == heads[0]
    assert key_of(RouteHints(session="s", prefixes=heads)) == key_of(RouteHints(session="s"))
