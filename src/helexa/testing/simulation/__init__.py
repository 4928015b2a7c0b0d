"""A mesh of thousands on one virtual clock, from one seed.

    world = World(seed=7, network=Network(loss=0.05))
    world.add(200)
    world.prime()                    # or world.join(): everyone by one bootstrap
    world.run(30.0)
    world.kill(world.nodes[3])
    world.run(15.0)
    assert not world.disagreements()

`world.py` is the clock and the nodes, `network.py` what happens to messages,
`identities.py` who they are, `hostile.py` members that misbehave. The same seed
gives the same run to the last message, in any process. `python -m
helexa.testing.simulation --seed 7` runs every scenario of `scenarios.py`;
`--figures` measures what `docs/benchmarks/mesh.md` says.
"""
